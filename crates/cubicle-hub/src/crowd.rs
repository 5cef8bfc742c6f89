//! How many connections one address holds, so that nobody takes all of them.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use crate::limit::network;

/// The connections that are open, by address.
#[derive(Clone)]
pub(crate) struct Crowd {
    most: usize,
    open: Arc<Mutex<HashMap<IpAddr, usize>>>,
}

/// One connection; dropping it makes room.
pub(crate) struct Guest {
    crowd: Crowd,
    address: IpAddr,
}

impl Crowd {
    /// Allows this many connections per address.
    pub(crate) fn new(most: usize) -> Self {
        Self { most, open: Arc::default() }
    }

    /// Lets one more connection in, unless its address has too many. Loopback addresses are not
    /// counted: a forwarded port or a front shows everybody under one.
    pub(crate) fn enter(&self, address: IpAddr) -> Option<Guest> {
        let address = network(address);
        if !address.to_canonical().is_loopback() {
            let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
            let count = open.entry(address).or_default();
            if *count >= self.most {
                return None;
            }
            *count += 1;
        }
        Some(Guest { crowd: self.clone(), address })
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        let mut open = self.crowd.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = open.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                open.remove(&self.address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_address_does_not_take_all_the_room() {
        let crowd = Crowd::new(2);
        let (one, other) = (IpAddr::from([192, 0, 2, 1]), IpAddr::from([192, 0, 2, 2]));
        let first = crowd.enter(one).expect("room");
        let _second = crowd.enter(one).expect("room");
        assert!(crowd.enter(one).is_none());
        assert!(crowd.enter(other).is_some());
        drop(first);
        assert!(crowd.enter(one).is_some());
    }

    #[test]
    fn this_machine_is_not_counted() {
        let crowd = Crowd::new(1);
        let guests: Vec<_> = (0..10).map(|_| crowd.enter(IpAddr::from([127, 0, 0, 1]))).collect();
        assert!(guests.iter().all(Option::is_some));
        assert!(crowd.open.lock().expect("unpoisoned").is_empty());
    }
}
