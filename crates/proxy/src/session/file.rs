//! `LOAD DATA LOCAL`: the client's file on its way to the server.

use bytes::Buf;
use wire::frame::{PacketWalker, Renumbering};

use super::Session;
use crate::backend::poll_read_into;
use crate::relay::RelayError;

impl Session {
    /// `LOAD DATA LOCAL`: passes the client's packets on up to the empty one that ends the file
    /// (P: page_protocol_com_query_response_local_infile_request).
    ///
    /// When the server is lost on the way the rest of the file is still read, and thrown away: it
    /// must not be taken for commands. The server's numbers of packets are this much `ahead`.
    pub(super) async fn send_file(&mut self, ahead: u8) -> Result<(), RelayError> {
        self.input.advance(self.command_len.min(self.input.len()));
        self.command_len = 0;
        self.client.stream.expect_file();
        let mut walker = PacketWalker::default();
        let mut numbers = Renumbering::new(ahead);
        let mut is_lost = false;
        loop {
            let (used, ended) = file_bytes(&mut walker, &self.input);
            self.sequence = walker.sequence();
            if !is_lost && let Some(backend) = &mut self.backend {
                numbers.apply(self.input.get_mut(..used).unwrap_or_default());
                let bytes = self.input.get(..used).unwrap_or_default();
                is_lost = backend.send(bytes, &mut 0).await.is_err();
            }
            self.worker.metrics.bytes(used, 0);
            self.input.advance(used);
            if ended {
                // A server that gives up in the middle says why before it hangs up, so its reply
                // is looked for in any case.
                return Ok(());
            }
            self.input.reserve(super::CHUNK);
            let (stream, input) = (&mut self.client.stream, &mut self.input);
            let read = std::future::poll_fn(|cx| poll_read_into(stream, input, cx)).await;
            match read {
                Ok(0) | Err(_) => return Err(RelayError::Client),
                Ok(_) => {}
            }
        }
    }
}

/// How many bytes at the front of `input` belong to a file, and whether its end is among them.
fn file_bytes(walker: &mut PacketWalker, input: &[u8]) -> (usize, bool) {
    let mut rest = input;
    while let Some(head) = walker.next_packet(&mut rest) {
        if head.first_frame_len() == 0 {
            return (input.len() - rest.len(), true);
        }
    }
    (input.len(), false)
}
