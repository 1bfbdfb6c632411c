//! A proxy between sessions and failsoft that breaks the promise on purpose.
//!
//! A checker that never complains proves nothing: each of these lies has to be found.

use std::io;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// The byte of a query (P: page_protocol_com_query).
const QUERY: u8 = 3;
/// One in so many statements that could be lied about is.
const ONE_IN: u64 = 5;
/// What begins a write of the checker's own.
const INSERT: &[u8] = b"INSERT INTO writes";

/// A way to break the promise.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Lie {
    /// A write is sent twice.
    Repeat,
    /// A write is answered with OK, and not sent.
    Swallow,
    /// A write is sent, and answered with the error of read-only mode.
    Refuse,
    /// A write in a transaction is answered with OK, and not sent.
    Tear,
    /// A read is answered with the answer to another.
    Mix,
    /// A write is answered with an error on which drivers send it again.
    Tempt,
    /// COMMIT is answered with OK, and ROLLBACK sent.
    Undo,
}

/// The proxy.
#[derive(Debug)]
pub struct Liar {
    port: u16,
    told: Arc<AtomicU64>,
    task: JoinHandle<()>,
}

impl Liar {
    /// Starts lying about what is sent to a loopback port.
    ///
    /// # Panics
    /// There is no free port.
    pub async fn start(target: u16, lie: Lie) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let told = Arc::new(AtomicU64::new(0));
        let task = tokio::spawn(accept(listener, target, lie, Arc::clone(&told)));
        Self { port, told, task }
    }

    /// Where sessions connect.
    #[must_use]
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// How many lies were told.
    #[must_use]
    pub fn told(&self) -> u64 {
        self.told.load(Ordering::SeqCst)
    }
}

impl Drop for Liar {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn accept(listener: TcpListener, target: u16, lie: Lie, told: Arc<AtomicU64>) {
    while let Ok((client, _)) = listener.accept().await {
        let told = Arc::clone(&told);
        tokio::spawn(async move {
            let Ok(server) = TcpStream::connect((Ipv4Addr::LOCALHOST, target)).await else {
                return;
            };
            let mut line = Line { client, server, lie, told, seen: 0, in_transaction: false };
            // It ends when either side does.
            drop(line.carry().await);
        });
    }
}

/// A frame: header and payload.
type Frame = Vec<u8>;

struct Line {
    client: TcpStream,
    server: TcpStream,
    lie: Lie,
    told: Arc<AtomicU64>,
    /// Statements that could have been lied about.
    seen: u64,
    in_transaction: bool,
}

impl Line {
    async fn carry(&mut self) -> io::Result<()> {
        let (mut one, mut other) = ([0], [0]);
        loop {
            tokio::select! {
                ready = self.client.peek(&mut one) => {
                    ready?;
                    let frame = read(&mut self.client).await?;
                    self.client_says(frame).await?;
                }
                ready = self.server.peek(&mut other) => {
                    ready?;
                    let frame = read(&mut self.server).await?;
                    self.client.write_all(&frame).await?;
                }
            }
        }
    }

    async fn client_says(&mut self, frame: Frame) -> io::Result<()> {
        // A command has sequence number 0.
        let text = match frame.as_slice() {
            [_, _, _, 0, QUERY, text @ ..] => text.to_vec(),
            _ => return self.server.write_all(&frame).await,
        };
        let begins = text.starts_with(b"BEGIN") || text.starts_with(b"START");
        self.in_transaction |= begins;
        let fits = match self.lie {
            Lie::Repeat | Lie::Swallow | Lie::Refuse | Lie::Tempt => {
                text.starts_with(INSERT) && !text.contains(&b';') && !self.in_transaction
            }
            Lie::Tear => text.starts_with(INSERT) && self.in_transaction,
            Lie::Mix => text.starts_with(b"SELECT ") && text.contains(&b'@'),
            Lie::Undo => text == b"COMMIT",
        };
        if text == b"COMMIT" || text == b"ROLLBACK" {
            self.in_transaction = false;
        }
        self.seen += u64::from(fits);
        if fits && self.seen.is_multiple_of(ONE_IN) {
            return self.tell(frame, &text).await;
        }
        self.server.write_all(&frame).await
    }

    async fn tell(&mut self, mut frame: Frame, text: &[u8]) -> io::Result<()> {
        self.told.fetch_add(1, Ordering::SeqCst);
        let count = text.windows(2).filter(|pair| pair == b"'w").count();
        let answer = match self.lie {
            Lie::Swallow | Lie::Tear => ok(count),
            Lie::Tempt => error(2013, "Lost connection to MySQL server during query"),
            Lie::Mix => {
                // The number that the read asks for: another digit.
                frame[12] = if frame[12] == b'1' { b'2' } else { b'1' };
                return self.server.write_all(&frame).await;
            }
            Lie::Repeat => {
                let answer = self.ask(&frame).await?;
                self.ask(&frame).await?;
                answer
            }
            Lie::Refuse => {
                self.ask(&frame).await?;
                error(1290, "the --read-only option (failsoft: a lie)")
            }
            Lie::Undo => {
                let rollback = [&[QUERY], b"ROLLBACK".as_slice()].concat();
                self.ask(&framed(0, &rollback)).await?;
                ok(0)
            }
        };
        self.client.write_all(&answer).await
    }

    /// Sends a command whose answer is one packet.
    async fn ask(&mut self, frame: &[u8]) -> io::Result<Frame> {
        self.server.write_all(frame).await?;
        read(&mut self.server).await
    }
}

async fn read(stream: &mut TcpStream) -> io::Result<Frame> {
    let mut header = [0; 4];
    stream.read_exact(&mut header).await?;
    let [a, b, c, _] = header;
    let length = usize::from(a) | usize::from(b) << 8 | usize::from(c) << 16;
    let mut frame = header.to_vec();
    frame.resize(4 + length, 0);
    stream.read_exact(&mut frame[4..]).await?;
    Ok(frame)
}

fn framed(sequence: u8, payload: &[u8]) -> Frame {
    let length = u32::try_from(payload.len()).expect("a short packet").to_le_bytes();
    [&length[..3], &[sequence], payload].concat()
}

/// OK with so many changed rows and autocommit on (P: page_protocol_basic_ok_packet).
fn ok(changed: usize) -> Frame {
    framed(1, &[0, u8::try_from(changed).expect("few rows"), 0, 2, 0, 0, 0])
}

/// An error packet (P: page_protocol_basic_err_packet).
fn error(code: u16, text: &str) -> Frame {
    framed(1, &[&[0xff], code.to_le_bytes().as_slice(), b"#HY000", text.as_bytes()].concat())
}
