//! A name server of one file: answers A and AAAA from a table, and counts who asked for what.

use std::collections::HashMap;
use std::net::{IpAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

type Table = Arc<Mutex<HashMap<String, Vec<Vec<IpAddr>>>>>;

/// The names of a world. Unknown names do not exist.
#[derive(Default)]
pub(crate) struct Names {
    table: Table,
    asked: Arc<Mutex<Vec<String>>>,
    stopped: Arc<AtomicBool>,
}

impl Names {
    /// The name has these addresses.
    pub(crate) fn set(&self, name: &str, addresses: &[&str]) {
        self.set_changing(name, &[addresses]);
    }

    /// The name has the first set when first asked for, then the next; the last one stays.
    pub(crate) fn set_changing(&self, name: &str, sets: &[&[&str]]) {
        let read = |set: &&[&str]| set.iter().map(|text| text.parse().expect("an address")).collect();
        self.table.lock().expect("table").insert(name.to_owned(), sets.iter().map(read).collect());
    }

    /// How often the IPv4 addresses of this name were asked for.
    pub(crate) fn asked(&self, name: &str) -> usize {
        self.asked.lock().expect("asked").iter().filter(|asked| *asked == name).count()
    }

    /// Every name whose IPv4 addresses were asked for.
    pub(crate) fn all_asked(&self) -> Vec<String> {
        self.asked.lock().expect("asked").clone()
    }

    pub(crate) fn serve(&self, socket: UdpSocket) {
        let (table, asked, stopped) = (self.table.clone(), self.asked.clone(), self.stopped.clone());
        socket.set_read_timeout(Some(Duration::from_millis(200))).expect("a timeout");
        std::thread::spawn(move || {
            let mut query = [0; 512];
            while !stopped.load(Ordering::Relaxed) {
                let Ok((length, client)) = socket.recv_from(&mut query) else { continue };
                if let Some(answer) = answer(&query[..length], &table, &asked) {
                    let _ = socket.send_to(&answer, client);
                }
            }
        });
    }

    pub(crate) fn stop(&self) {
        self.stopped.store(true, Ordering::Relaxed);
    }
}

/// RFC 1035 section 4: header, the question again, and the addresses of the asked family.
fn answer(query: &[u8], table: &Table, asked: &Mutex<Vec<String>>) -> Option<Vec<u8>> {
    let mut labels = Vec::new();
    let mut at = 12;
    loop {
        let length = usize::from(*query.get(at)?);
        at += 1;
        if length == 0 {
            break;
        }
        labels.push(String::from_utf8(query.get(at..at + length)?.to_vec()).ok()?);
        at += length;
    }
    let kind = u16::from_be_bytes([*query.get(at)?, *query.get(at + 1)?]);
    let name = labels.join(".").to_ascii_lowercase();
    let four = kind == 1;
    if four {
        asked.lock().ok()?.push(name.clone());
    }
    let mut table = table.lock().ok()?;
    let sets = table.get_mut(&name);
    let exists = sets.is_some();
    // Both families of one look-up see the same set; the A question, which comes first, is
    // what moves on to the next one after the AAAA question has been answered.
    let addresses: Vec<IpAddr> = match sets {
        Some(sets) if !four && sets.len() > 1 => sets.remove(0),
        Some(sets) => sets[0].clone(),
        None => Vec::new(),
    };
    let addresses: Vec<_> = addresses.into_iter().filter(|address| address.is_ipv4() == four).collect();
    let wanted = kind == 1 || kind == 28;
    let count = if wanted { addresses.len() } else { 0 };
    let mut answer = query.get(..2)?.to_vec();
    answer.extend([0x81, if exists { 0x80 } else { 0x83 }, 0, 1, 0, u8::try_from(count).ok()?, 0, 0, 0, 0]);
    answer.extend(query.get(12..at + 4)?);
    for address in addresses.iter().take(count) {
        // A pointer to the question's name, the family, class IN, no time to live.
        answer.extend([0xc0, 12]);
        answer.extend(kind.to_be_bytes());
        answer.extend([0, 1, 0, 0, 0, 0]);
        let octets = match address {
            IpAddr::V4(four) => four.octets().to_vec(),
            IpAddr::V6(six) => six.octets().to_vec(),
        };
        answer.extend(u16::try_from(octets.len()).ok()?.to_be_bytes());
        answer.extend(octets);
    }
    Some(answer)
}
