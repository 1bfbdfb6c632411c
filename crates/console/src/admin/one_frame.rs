//! Keeps `opensrv-mysql` 0.7.0 within its safe ground.
//!
//! Its packet reader frees the packet it is about to return when the bytes of another packet
//! follow in the same read (<https://github.com/databendlabs/opensrv/issues/66>, fixed after
//! 0.7.0). It also panics on a packet of several frames with a gap in their sequence ids, and adds
//! one to a sequence id of 255. None of this can happen behind a [`OneFrame`]. Drop this module
//! once a release has the fix.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, ReadBuf};

/// The longest frame the console reads, in bytes. Nobody types more.
pub(super) const MAX_FRAME: usize = 1 << 20;

const HEADER_LEN: usize = 4;

/// The commands that are served: to all others the library says OK, and does nothing. Quit, a schema, a query,
/// the fields of a table, a ping, and a statement prepared and closed.
const SERVED: [u8; 7] = [0x01, 0x02, 0x03, 0x04, 0x0e, 0x16, 0x19];

/// A reader none of whose reads crosses the end of a frame.
#[derive(Debug)]
pub(super) struct OneFrame<R> {
    inner: R,
    header: [u8; HEADER_LEN],
    header_have: usize,
    header_sent: usize,
    payload_left: usize,
    /// The next byte is a command.
    is_command: bool,
}

impl<R> OneFrame<R> {
    /// Reads from `inner`.
    pub(super) fn new(inner: R) -> Self {
        Self {
            inner,
            header: [0; HEADER_LEN],
            header_have: 0,
            header_sent: 0,
            payload_left: 0,
            is_command: false,
        }
    }

    fn check_header(&mut self) -> io::Result<()> {
        let [a, b, c, sequence] = self.header;
        self.payload_left = usize::from(a) | usize::from(b) << 8 | usize::from(c) << 16;
        if self.payload_left > MAX_FRAME {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "frame too long"));
        }
        self.is_command = sequence == 0;
        if sequence == u8::MAX {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "sequence id out of order"));
        }
        Ok(())
    }
}

impl<R: AsyncRead + Unpin> AsyncRead for OneFrame<R> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if this.header_sent == HEADER_LEN && this.payload_left == 0 {
            this.header_have = 0;
            this.header_sent = 0;
        }
        while this.header_have < HEADER_LEN {
            let mut rest =
                ReadBuf::new(this.header.get_mut(this.header_have..).unwrap_or_default());
            ready!(Pin::new(&mut this.inner).poll_read(cx, &mut rest))?;
            let read = rest.filled().len();
            if read == 0 {
                return Poll::Ready(Ok(()));
            }
            this.header_have += read;
            if this.header_have == HEADER_LEN {
                this.check_header()?;
            }
        }
        if this.header_sent < HEADER_LEN {
            let unsent = this.header.get(this.header_sent..).unwrap_or_default();
            let now = unsent.get(..out.remaining()).unwrap_or(unsent);
            out.put_slice(now);
            this.header_sent += now.len();
            return Poll::Ready(Ok(()));
        }
        // Through a buffer of our own: a `ReadBuf` cannot be limited without `unsafe`.
        let mut chunk = [0; 4096];
        let limit = this.payload_left.min(out.remaining()).min(chunk.len());
        let mut part = ReadBuf::new(chunk.get_mut(..limit).unwrap_or_default());
        ready!(Pin::new(&mut this.inner).poll_read(cx, &mut part))?;
        if let Some(command) = part.filled().first().filter(|_| this.is_command) {
            this.is_command = false;
            if !SERVED.contains(command) {
                let text = format!("command {command:#04x}, which is not served");
                return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, text)));
            }
        }
        this.payload_left -= part.filled().len();
        out.put_slice(part.filled());
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use async_trait::async_trait;
    use opensrv_mysql::{
        AsyncMysqlIntermediary, AsyncMysqlShim, OkResponse, ParamParser, QueryResultWriter,
        StatementMetaWriter,
    };
    use tokio::io::{AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream};

    use super::*;

    /// A server that remembers what it was asked.
    struct Listener(Arc<Mutex<Vec<String>>>);

    #[async_trait]
    impl<W: AsyncWrite + Send + Unpin> AsyncMysqlShim<W> for Listener {
        type Error = io::Error;

        async fn on_prepare<'a>(
            &'a mut self,
            _: &'a str,
            reply: StatementMetaWriter<'a, W>,
        ) -> io::Result<()> {
            reply.reply(1, &[], &[]).await
        }

        async fn on_execute<'a>(
            &'a mut self,
            _: u32,
            _: ParamParser<'a>,
            reply: QueryResultWriter<'a, W>,
        ) -> io::Result<()> {
            reply.completed(OkResponse::default()).await
        }

        async fn on_close(&mut self, _: u32) {}

        async fn on_query<'a>(
            &'a mut self,
            sql: &'a str,
            reply: QueryResultWriter<'a, W>,
        ) -> io::Result<()> {
            let asked = [sql, "; allocates, so that freed memory gets new content"].concat();
            self.0.lock().unwrap().push(asked.split(';').next().unwrap().to_owned());
            reply.completed(OkResponse::default()).await
        }
    }

    fn frame(sequence: u8, payload: &[u8]) -> Vec<u8> {
        let len = u32::try_from(payload.len()).unwrap().to_le_bytes();
        [&[len[0], len[1], len[2], sequence], payload].concat()
    }

    fn login() -> Vec<u8> {
        // PROTOCOL_41, SECURE_CONNECTION, PLUGIN_AUTH; no database
        let mut payload = 0x0008_8200_u32.to_le_bytes().to_vec();
        payload.extend([0, 0, 0, 1, 45]);
        payload.extend([0; 23]);
        payload.extend(b"admin\0\x14");
        payload.extend([7; 20]);
        payload.extend(b"mysql_native_password\0");
        frame(1, &payload)
    }

    async fn read_packet(stream: &mut DuplexStream) -> Vec<u8> {
        let mut header = [0; 4];
        stream.read_exact(&mut header).await.unwrap();
        let len = u32::from_le_bytes([header[0], header[1], header[2], 0]);
        let mut payload = vec![0; usize::try_from(len).unwrap()];
        stream.read_exact(&mut payload).await.unwrap();
        payload
    }

    #[tokio::test]
    async fn statements_sent_in_one_write_arrive_intact() {
        let (mut client, server) = tokio::io::duplex(1 << 16);
        let (read, write) = tokio::io::split(server);
        let asked = Arc::new(Mutex::new(Vec::new()));
        let listener = Listener(Arc::clone(&asked));
        tokio::spawn(AsyncMysqlIntermediary::run_on(listener, OneFrame::new(read), write));

        let statements: Vec<String> = (0..50).map(|n| format!("SHOW SERVERS {n:0n$}")).collect();
        let mut bytes = login();
        for statement in &statements {
            bytes.extend(frame(0, &[b"\x03", statement.as_bytes()].concat()));
        }
        read_packet(&mut client).await; // the greeting
        client.write_all(&bytes).await.unwrap();
        for _ in 0..=statements.len() {
            assert_eq!(read_packet(&mut client).await[0], 0x00, "not an OK packet");
        }
        assert_eq!(*asked.lock().unwrap(), statements);
    }
}
