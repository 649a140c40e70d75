//! Memory for bytes on their way: taken from a common stock for the moment they are handled, so
//! that a connection that waits holds none.

use std::{
    io,
    sync::{Mutex, PoisonError},
};

use bytes::BufMut;
use tokio::net::TcpStream;

use super::{pipe::Pipes, request::MAX_HEAD};

/// Size of a block. A head fits in one.
pub(crate) const BLOCK: usize = MAX_HEAD;

/// Blocks kept for later use: 1 MiB in all.
const STOCK: usize = 32;

/// Blocks that nobody uses at the moment, and the pipes that long bodies take instead.
#[derive(Debug, Default)]
pub(crate) struct Blocks {
    stock: Mutex<Vec<Vec<u8>>>,
    pub(super) pipes: Pipes,
}

/// Bytes that were read and not yet handled.
#[derive(Debug, Default)]
pub(crate) struct Buffer {
    bytes: Vec<u8>,
    start: usize,
}

// === impl Blocks ===

impl Blocks {
    /// An empty block.
    pub(crate) fn take(&self) -> Vec<u8> {
        let mut stock = self.stock.lock().unwrap_or_else(PoisonError::into_inner);
        stock.pop().unwrap_or_else(|| Vec::with_capacity(BLOCK))
    }

    /// Gives a block back.
    pub(crate) fn give(&self, mut block: Vec<u8>) {
        let mut stock = self.stock.lock().unwrap_or_else(PoisonError::into_inner);
        if block.capacity() == BLOCK && stock.len() < STOCK {
            block.clear();
            stock.push(block);
        }
    }
}

// === impl Buffer ===

impl Buffer {
    /// The bytes to be handled.
    pub(crate) fn filled(&self) -> &[u8] {
        self.bytes.get(self.start..).unwrap_or_default()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.filled().is_empty()
    }

    /// Forgets the first bytes.
    pub(crate) fn consume(&mut self, handled: usize) {
        self.start += handled;
        if self.start >= self.bytes.len() {
            self.bytes.clear();
            self.start = 0;
        }
    }

    /// Reads once what has arrived: 0 bytes are the end, `WouldBlock` says that nothing has.
    pub(crate) fn read(&mut self, stream: &TcpStream, blocks: &Blocks) -> io::Result<usize> {
        self.make_room(blocks);
        let room = BLOCK.saturating_sub(self.bytes.len());
        stream.try_read_buf(&mut (&mut self.bytes).limit(room))
    }

    /// Gives the memory back, but for bytes that are still to be handled: those are kept in as
    /// little as they need.
    pub(crate) fn release(&mut self, blocks: &Blocks) {
        if self.bytes.capacity() < BLOCK {
            return;
        }
        let rest = self.filled().to_vec();
        self.start = 0;
        blocks.give(std::mem::replace(&mut self.bytes, rest));
    }

    fn make_room(&mut self, blocks: &Blocks) {
        if self.bytes.capacity() < BLOCK {
            let mut block = blocks.take();
            block.extend_from_slice(self.filled());
            self.bytes = block;
        } else if self.start > 0 {
            self.bytes.drain(..self.start);
        }
        self.start = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_no_more_than_what_is_to_be_handled() {
        let blocks = Blocks::default();
        let mut block = blocks.take();
        block.extend_from_slice(b"GET / rest");
        let mut buffer = Buffer {
            bytes: block,
            start: 0,
        };
        buffer.consume(6);
        buffer.release(&blocks);
        assert_eq!(buffer.filled(), b"rest");
        assert!(buffer.bytes.capacity() < 100);
        assert_eq!(blocks.stock.lock().unwrap().len(), 1);
        buffer.make_room(&blocks);
        assert_eq!(buffer.filled(), b"rest");
        assert_eq!(buffer.bytes.capacity(), BLOCK);
        assert!(blocks.stock.lock().unwrap().is_empty());
    }

    #[test]
    fn the_stock_is_bounded() {
        let blocks = Blocks::default();
        let many: Vec<_> = (0..2 * STOCK).map(|_| blocks.take()).collect();
        for block in many {
            blocks.give(block);
        }
        blocks.give(vec![0; 3]);
        assert_eq!(blocks.stock.lock().unwrap().len(), STOCK);
    }
}
