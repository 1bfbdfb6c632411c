//! Buffers that the sessions of one core lend each other: an idle session has none.

use std::cell::RefCell;

use bytes::BytesMut;

/// Bytes read from a client at a time.
pub(crate) const CHUNK: usize = 16 * 1024;

/// How many are kept. More are in use only while as many clients' statements are on their way.
const MOST: usize = 64;

/// Buffers that nobody uses, empty and with room for [`CHUNK`] bytes.
#[derive(Debug, Default)]
pub(crate) struct Buffers(RefCell<Vec<BytesMut>>);

impl Buffers {
    pub(crate) fn take(&self) -> BytesMut {
        self.0.borrow_mut().pop().unwrap_or_else(|| BytesMut::with_capacity(CHUNK))
    }

    /// Takes an empty one back, unless it is not worth it.
    pub(crate) fn give_back(&self, mut buffer: BytesMut) {
        let mut kept = self.0.borrow_mut();
        if kept.len() < MOST && buffer.is_empty() && buffer.capacity() <= CHUNK {
            // What was taken off its front is free again, without a copy.
            buffer.reserve(CHUNK);
            kept.push(buffer);
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Buf;

    use super::*;

    #[test]
    fn they_come_back_as_they_were() {
        let buffers = Buffers::default();
        let mut buffer = buffers.take();
        let place = buffer.as_ptr();
        for _ in 0..3 {
            buffer.extend_from_slice(b"a statement");
            buffer.advance(11);
            buffers.give_back(buffer);
            buffer = buffers.take();
            assert_eq!((buffer.as_ptr(), buffer.capacity()), (place, CHUNK));
        }
        // Neither large ones nor ever more.
        buffers.give_back(BytesMut::with_capacity(CHUNK + 1));
        (0..2 * MOST).for_each(|_| buffers.give_back(BytesMut::with_capacity(CHUNK)));
        assert_eq!(buffers.0.borrow().len(), MOST);
    }
}
