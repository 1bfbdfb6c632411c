//! Large results and large files: how fast they pass, and what that costs the proxy.
#![allow(clippy::disallowed_methods, reason = "measuring is reading the clock")]

use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use bytes::BytesMut;
use serde::Serialize;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use wire::capabilities::Capabilities;
use wire::command::ReplyKind;
use wire::reply::{Progress, ReplyTracker};

use crate::client::Client;
use crate::peers::Peer;
use crate::procstat::{cpu_time, resident};

/// Bytes of a row of a large result, and of a line of a large file.
const ROW: u64 = 1 << 20;
/// Bytes of a packet of a large file.
const PACKET: usize = 1 << 20;
/// Bytes read at a time.
const CHUNK: usize = 256 << 10;
/// The pause between two looks at the proxy's memory.
const PAUSE: Duration = Duration::from_millis(20);

/// What is moved.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Way {
    /// A result, from the server.
    Result,
    /// A file, to the server (`LOAD DATA LOCAL`).
    Load,
}

/// What moving so much showed.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(crate) struct Bulk {
    pub(crate) mib_per_second: f64,
    /// Processor time of the proxy, in seconds for each GiB.
    pub(crate) cpu_per_gib: Option<f64>,
    /// The most that the proxy's memory grew by meanwhile, in MiB.
    pub(crate) grown_mib: Option<f64>,
}

impl Way {
    /// The words of the table.
    pub(crate) const fn words(self) -> &'static str {
        match self {
            Self::Result => "large result",
            Self::Load => "LOAD DATA LOCAL",
        }
    }
}

/// The table that files are loaded into: of a line nothing is kept.
pub(crate) const SINK: &str = "CREATE TABLE sink (id INT PRIMARY KEY AUTO_INCREMENT)";

/// Moves so many bytes once.
pub(crate) async fn measure(way: Way, peer: &Peer, bytes: u64) -> anyhow::Result<Bulk> {
    let mut client = Client::connect(peer.port(), 1).await?;
    let pid = peer.pid();
    let memory = || pid.map(resident).transpose();
    let (cpu, before) = (pid.map(cpu_time).transpose()?, memory()?);
    let began = Instant::now();
    let moving = async {
        match way {
            Way::Result => read_result(&mut client, bytes / ROW).await,
            Way::Load => load_file(&mut client, bytes).await,
        }
    };
    tokio::pin!(moving);
    let mut most = before;
    loop {
        tokio::select! {
            moved = &mut moving => break moved?,
            () = tokio::time::sleep(PAUSE) => most = most.max(memory()?),
        }
    }
    let took = began.elapsed().as_secs_f64();
    let spent = cpu.zip(pid.map(cpu_time).transpose()?).map(|(from, to)| to.saturating_sub(from));
    let mib = mib_of(bytes);
    Ok(Bulk {
        mib_per_second: mib / took,
        cpu_per_gib: spent.map(|spent| spent.as_secs_f64() * 1024.0 / mib),
        grown_mib: most.zip(before).map(|(most, before)| mib_of((most - before) << 10)),
    })
}

#[allow(clippy::cast_precision_loss, reason = "shown with a few digits")]
fn mib_of(bytes: u64) -> f64 {
    bytes as f64 / 1_048_576.0
}

async fn read_result(client: &mut Client, rows: u64) -> anyhow::Result<()> {
    let text = format!("SELECT REPEAT('x', {}) FROM seq_1_to_{rows}", ROW - 16);
    client.send_query(text.as_bytes()).await?;
    read_reply(client).await
}

/// Reads a reply to its end, and looks at its packets' headers only.
pub(crate) async fn read_reply(client: &mut Client) -> anyhow::Result<()> {
    let mut tracker = ReplyTracker::new(ReplyKind::Results, Capabilities::NONE);
    let mut buffer = BytesMut::with_capacity(CHUNK);
    loop {
        buffer.reserve(CHUNK);
        if client.stream.read_buf(&mut buffer).await? == 0 {
            bail!("the connection ended in the middle of a reply");
        }
        let (used, progress) = tracker.feed(&buffer)?;
        match progress {
            Progress::Done(end) => match end.error {
                None => return Ok(()),
                Some(number) => bail!("the reply is error {number}"),
            },
            Progress::More => drop(buffer.split_to(used)),
            Progress::ClientTurn => bail!("the server asks for a file"),
        }
    }
}

/// Sends lines of which the server keeps nothing.
async fn load_file(client: &mut Client, bytes: u64) -> anyhow::Result<()> {
    client.send_query(b"LOAD DATA LOCAL INFILE 'bench' INTO TABLE sink (@skipped)").await?;
    let mut head = [0; 5];
    client.stream.read_exact(&mut head).await?;
    if head[4] != 0xfb {
        bail!("the server does not ask for the file");
    }
    let name = usize::from(head[0]) - 1;
    client.stream.read_exact(&mut vec![0; name]).await?;
    let mut packet = vec![b'x'; PACKET + 4];
    *packet.last_mut().context("a packet")? = b'\n';
    let mut sequence = 2_u8;
    for _ in 0..bytes / u64::try_from(PACKET)? {
        put_header(&mut packet, PACKET, sequence)?;
        client.stream.write_all(&packet).await?;
        sequence = sequence.wrapping_add(1);
    }
    client.stream.write_all(&[0, 0, 0, sequence]).await?;
    let mut tracker = ReplyTracker::new(ReplyKind::Status, Capabilities::NONE);
    let mut reply = BytesMut::new();
    loop {
        if client.stream.read_buf(&mut reply).await? == 0 {
            bail!("the connection ended before the file's answer");
        }
        match tracker.feed(&reply)? {
            (_, Progress::Done(end)) if end.error.is_none() => return Ok(()),
            (_, Progress::Done(end)) => bail!("the file was refused with {:?}", end.error),
            (used, _) => drop(reply.split_to(used)),
        }
    }
}

fn put_header(packet: &mut [u8], len: usize, sequence: u8) -> anyhow::Result<()> {
    let [a, b, c, _] = u32::try_from(len)?.to_le_bytes();
    packet.get_mut(..4).context("a header")?.copy_from_slice(&[a, b, c, sequence]);
    Ok(())
}

/// A statement of so many bytes, that asks for nothing.
pub(crate) async fn long_statement(client: &mut Client, bytes: usize) -> anyhow::Result<()> {
    let mut text = b"DO '".to_vec();
    text.resize(bytes.max(6) - 1, b'x');
    text.push(b'\'');
    client.send_query(&text).await?;
    read_reply(client).await
}
