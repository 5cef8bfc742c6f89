//! Watches what a browser sends over a WebSocket, without changing it: a message is something
//! the user did, a pong is only the browser's answer to the server's ping (RFC 6455, 5.2).

/// Follows the frame headers of one direction.
#[derive(Debug, Default)]
pub(super) struct Frames {
    /// The header bytes seen so far of the present frame.
    header: Vec<u8>,
    /// Payload bytes of the present frame that are still to come.
    left: u64,
}

impl Frames {
    /// Takes the next bytes; says whether a data frame began in them.
    pub(super) fn take(&mut self, mut bytes: &[u8]) -> bool {
        let mut message = false;
        while !bytes.is_empty() {
            if self.left > 0 {
                let skipped = bytes.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
                self.left -= skipped as u64;
                bytes = &bytes[skipped..];
                continue;
            }
            self.header.push(bytes[0]);
            bytes = &bytes[1..];
            if let Some((opcode, length)) = parse(&self.header) {
                self.header.clear();
                self.left = length;
                // 8, 9 and 10 are close, ping and pong.
                message |= opcode < 8;
            }
        }
        message
    }
}

/// Opcode and payload length of a complete frame header.
fn parse(header: &[u8]) -> Option<(u8, u64)> {
    let (first, second) = (*header.first()?, *header.get(1)?);
    let mask = if second & 0x80 == 0 { 0 } else { 4 };
    let (length, size) = match second & 0x7f {
        126 => (u64::from(u16::from_be_bytes(header.get(2..4)?.try_into().ok()?)), 4),
        127 => (u64::from_be_bytes(header.get(2..10)?.try_into().ok()?), 10),
        short => (u64::from(short), 2),
    };
    (header.len() == size + mask).then_some((first & 0x0f, length))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn frame(opcode: u8, payload: &[u8]) -> Vec<u8> {
        let mut frame = vec![0x80 | opcode];
        match payload.len() {
            short @ 0..=125 => frame.push(0x80 | short as u8),
            medium @ 126..=65535 => {
                frame.push(0x80 | 126);
                frame.extend((medium as u16).to_be_bytes());
            }
            long => {
                frame.push(0x80 | 127);
                frame.extend((long as u64).to_be_bytes());
            }
        }
        frame.extend([1, 2, 3, 4]);
        frame.extend(payload);
        frame
    }

    #[test]
    fn pongs_are_no_messages() {
        let mut frames = Frames::default();
        assert!(!frames.take(&frame(10, b"x")));
        assert!(!frames.take(&frame(9, b"")));
        assert!(frames.take(&frame(1, b"hello")));
        assert!(frames.take(&frame(2, &vec![0; 70_000])));
        assert!(!frames.take(&frame(8, b"")));
    }

    proptest! {
        #[test]
        fn the_cut_of_the_bytes_does_not_matter(
            sizes in prop::collection::vec((0u8..3, 0usize..70_000), 1..6),
            cut in 1usize..5000,
        ) {
            let opcodes = [1u8, 2, 10];
            let bytes: Vec<u8> =
                sizes.iter().flat_map(|(kind, size)| frame(opcodes[usize::from(*kind)], &vec![0x81; *size])).collect();
            let expected = sizes.iter().any(|(kind, _)| *kind < 2);
            let mut frames = Frames::default();
            let mut seen = false;
            for part in bytes.chunks(cut) {
                seen |= frames.take(part);
            }
            prop_assert_eq!(seen, expected);
            prop_assert_eq!(frames.left, 0);
            prop_assert!(frames.header.is_empty());
        }
    }
}
