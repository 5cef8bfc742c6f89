//! How many connections there may be: for each address that asks, and for all together.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Addresses that are remembered without connections before they are swept out.
const REMEMBERED: usize = 1024;

/// The places that are left.
#[derive(Debug)]
pub(crate) struct Room {
    each: usize,
    all: Arc<Semaphore>,
    taken: HashMap<IpAddr, Arc<Semaphore>>,
}

/// A place, given back when it is dropped.
#[derive(Debug)]
pub(crate) struct Place {
    _of_the_address: OwnedSemaphorePermit,
    _of_all: OwnedSemaphorePermit,
}

impl Room {
    /// For `each` connections of one address, and `all` together.
    pub(crate) fn new(each: usize, all: usize) -> Self {
        Self { each, all: Arc::new(Semaphore::new(all)), taken: HashMap::new() }
    }

    /// A place for one more connection of this address, if there is one.
    pub(crate) fn take(&mut self, address: IpAddr) -> Option<Place> {
        if self.taken.len() >= REMEMBERED {
            let each = self.each;
            self.taken.retain(|_, places| places.available_permits() < each);
        }
        let places = self.taken.entry(address).or_insert_with(|| Arc::new(Semaphore::new(self.each)));
        let of_the_address = Arc::clone(places).try_acquire_owned().ok()?;
        let of_all = Arc::clone(&self.all).try_acquire_owned().ok()?;
        Some(Place { _of_the_address: of_the_address, _of_all: of_all })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_address_does_not_take_the_room_of_another() {
        let mut room = Room::new(2, 3);
        let [a, b] = ["10.0.0.1", "10.0.0.2"].map(|text| text.parse::<IpAddr>().expect("an address"));
        let held = [room.take(a), room.take(a)];
        assert!(held.iter().all(Option::is_some) && room.take(a).is_none());
        let third = room.take(b).expect("room for another address");
        assert!(room.take(b).is_none(), "all together have no more");
        drop(third);
        assert!(room.take(b).is_some());
        drop(held);
        assert!(room.take(a).is_some());
    }

    #[test]
    fn addresses_without_connections_are_forgotten() {
        let mut room = Room::new(1, 8);
        let held = room.take([10, 1, 0, 0].into());
        for number in 0..3000_u32 {
            assert!(room.take(std::net::Ipv4Addr::from(number + (10 << 24)).into()).is_some());
        }
        assert!(room.taken.len() <= REMEMBERED + 1);
        assert!(held.is_some() && room.take([10, 1, 0, 0].into()).is_none(), "who has connections is remembered");
    }
}
