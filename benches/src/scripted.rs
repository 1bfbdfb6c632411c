//! A server that answers from memory, so that what proxies cost is not hidden by what a database does.
//!
//! It says what a real one said. A statement that is new to it is put to that one, and the answer is kept,
//! byte by byte; the statements of the loads are known before anybody asks. Nothing changes by what it is told,
//! and everybody is let in, so it is good for measuring and for nothing else.

use std::cell::RefCell;
use std::collections::HashMap;
use std::net::TcpListener as StdListener;
use std::rc::Rc;
use std::thread;

use anyhow::{Context as _, bail};
use testkit::{APP, Login, RawClient, Server, capability};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Builder;
use tokio::sync::{Mutex, oneshot};
use tokio::task::{LocalSet, spawn_local};
use wire::auth::{NONCE_LEN, Nonce};
use wire::capabilities::Capabilities;
use wire::command::{self, ReplyKind};
use wire::frame::{HEADER_LEN, Header, put_packet, whole_packet};
use wire::greeting::Greeting;
use wire::reply::{Progress, ReplyTracker};
use wire::status::{AUTOCOMMIT, put_ok};

use crate::client::{self, PREPARE, ROWS};

/// What is agreed on with the real server, and offered to all that come: replies end in one way then.
const AGREED: u32 = capability::USUAL | capability::LOCAL_FILES | capability::SESSION_TRACK;
/// What is read of a client at a time.
const BUFFER: usize = 16 << 10;

/// Starts one in a thread of its own, which ends with the process; answers with its loopback port once it
/// knows the answers.
pub(crate) async fn start(server: &Server) -> anyhow::Result<u16> {
    let listener = StdListener::bind("127.0.0.1:0")?;
    listener.set_nonblocking(true)?;
    let port = listener.local_addr()?.port();
    let (learned, ready) = oneshot::channel();
    let real = server.port();
    thread::Builder::new().name("scripted".to_owned()).spawn(move || {
        let learning = Builder::new_current_thread().enable_all().build();
        let learning = learning.map_err(anyhow::Error::from);
        let serving = learning.and_then(|runtime| {
            let script = runtime.block_on(Script::learn(real))?;
            Ok((runtime, Rc::new(script), listener))
        });
        // Whoever asked may have gone.
        match serving {
            Ok((runtime, script, listener)) => {
                let _told = learned.send(Ok(()));
                LocalSet::new().block_on(&runtime, serve(listener, script))
            }
            Err(error) => {
                let _told = learned.send(Err(error));
                Ok(())
            }
        }
    })?;
    ready.await.context("the server that answers from memory is gone")??;
    Ok(port)
}

/// What there is to say.
struct Script {
    greeting: Vec<u8>,
    /// The bytes of the answer to each command, by its payload.
    answers: RefCell<HashMap<Vec<u8>, Rc<[u8]>>>,
    /// The real server, for what is not known.
    model: Mutex<RawClient>,
}

impl Script {
    /// Asks a real server for all that the loads are going to ask.
    async fn learn(port: u16) -> anyhow::Result<Self> {
        let mut model = RawClient::connect(port).await.context("cannot connect")?;
        let login = Login {
            capabilities: AGREED,
            schema: Some("app".to_owned()),
            ..Login::new(APP.user, APP.pass)
        };
        let answer = model.login(&login).await.context("the login broke off")?;
        if let Some((number, _, text)) = answer.error() {
            bail!("login refused: {number} {text}");
        }
        let script = Self {
            greeting: greeting(&model),
            answers: RefCell::default(),
            model: Mutex::new(model),
        };
        let prepared = client::prepared_id(&script.answer(&prepare()).await?)?;
        let mut command = Vec::new();
        for id in 1..=ROWS {
            for prepared in [None, Some(prepared)] {
                client::put_select(&mut command, prepared, id)?;
                script.answer(command.get(HEADER_LEN..).unwrap_or_default()).await?;
            }
        }
        Ok(script)
    }

    /// The answer to a command, from memory but for the first time.
    async fn answer(&self, payload: &[u8]) -> anyhow::Result<Rc<[u8]>> {
        if let Some(known) = self.answers.borrow().get(payload) {
            return Ok(Rc::clone(known));
        }
        let told: Rc<[u8]> = ask(&mut *self.model.lock().await, payload).await?.into();
        self.answers.borrow_mut().insert(payload.to_vec(), Rc::clone(&told));
        Ok(told)
    }
}

/// The preparation of the point select, as a payload.
fn prepare() -> Vec<u8> {
    [&[command::STMT_PREPARE], PREPARE].concat()
}

/// What the real server says first, with nothing offered that would change what follows.
fn greeting(model: &RawClient) -> Vec<u8> {
    let mut bytes = Vec::new();
    let offered = Capabilities::new(AGREED, 0).or(Capabilities::LOGIN);
    Greeting {
        version: model.greeting.version.clone(),
        connection_id: 1,
        nonce: Nonce([b'n'; NONCE_LEN]),
        capabilities: offered.without(Capabilities::CONNECT_ATTRS),
        collation: 45,
        status: AUTOCOMMIT,
        plugin: "mysql_native_password".to_owned(),
    }
    .encode(&mut bytes);
    bytes
}

/// Puts a command to a server; answers with all bytes of the reply.
async fn ask(model: &mut RawClient, payload: &[u8]) -> anyhow::Result<Vec<u8>> {
    let code = payload.first().copied().context("a command without a byte")?;
    let known = command::command(code).with_context(|| format!("what is command {code:#04x}?"))?;
    let mut packet = Vec::new();
    put_packet(&mut packet, 0, payload);
    if known.reply == ReplyKind::Nothing {
        return Ok(Vec::new());
    }
    model.stream.write_all(&packet).await?;
    let mut tracker = ReplyTracker::new(known.reply, Capabilities::new(AGREED, 0));
    let (mut told, mut used) = (Vec::new(), 0);
    loop {
        if model.stream.read_buf(&mut told).await? == 0 {
            bail!("the real server left");
        }
        let (more, progress) = tracker.feed(told.get(used..).unwrap_or_default())?;
        used += more;
        match progress {
            Progress::More => {}
            Progress::Done(_) => return Ok(told),
            Progress::ClientTurn => bail!("the real server asks for a file"),
        }
    }
}

async fn serve(listener: StdListener, script: Rc<Script>) -> anyhow::Result<()> {
    let listener = TcpListener::from_std(listener)?;
    loop {
        let (stream, _) = listener.accept().await?;
        let script = Rc::clone(&script);
        spawn_local(async move {
            // A client that breaks off says so itself.
            drop(converse(stream, &script).await);
        });
    }
}

/// Lets a client in, and answers its commands until it leaves.
async fn converse(mut stream: TcpStream, script: &Script) -> anyhow::Result<()> {
    stream.set_nodelay(true)?;
    stream.write_all(&script.greeting).await?;
    let (mut input, mut output) = (Vec::with_capacity(BUFFER), Vec::new());
    let mut is_logged_in = false;
    while stream.read_buf(&mut input).await? > 0 {
        let mut at = 0;
        while let Some((length, sequence)) = whole_packet(input.get(at..).unwrap_or_default()) {
            let packet = input.get(at..at + length).unwrap_or_default();
            at += length;
            if !is_logged_in {
                put_ok(&mut output, sequence.wrapping_add(1), AUTOCOMMIT);
                is_logged_in = true;
                continue;
            }
            match payload_of(packet)? {
                [command::QUIT, ..] => return Ok(()),
                // The real server would forget what was prepared.
                [command::RESET_CONNECTION | command::CHANGE_USER, ..] => {
                    put_ok(&mut output, 1, AUTOCOMMIT);
                }
                payload => output.extend_from_slice(&script.answer(payload).await?),
            }
        }
        input.drain(..at);
        stream.write_all(&output).await?;
        output.clear();
    }
    Ok(())
}

fn payload_of(packet: &[u8]) -> anyhow::Result<&[u8]> {
    let header = Header::peek(packet).context("a packet has a header")?;
    packet.get(HEADER_LEN..HEADER_LEN + header.payload_len).context("a packet has a payload")
}

#[cfg(test)]
mod tests {
    use testkit::{Flavor, Options};

    use super::*;
    use crate::client::Client;

    #[tokio::test]
    async fn it_says_what_the_real_one_said() {
        if !testkit::flavors().contains(&Flavor::MariaDb) {
            return;
        }
        let server = Server::start(Flavor::MariaDb, Options::default()).await.unwrap();
        let mut connection = server.connect(APP, Some("app")).await.unwrap();
        for statement in client::setup() {
            testkit::execute(&mut connection, &statement).await;
        }
        let port = start(&server).await.unwrap();
        for is_prepared in [false, true] {
            let mut client = Client::connect(port, 7).await.unwrap();
            if is_prepared {
                client.prepare().await.unwrap();
            }
            for _ in 0..20 {
                client.point_select().await.unwrap();
            }
            client.quit().await.unwrap();
        }
        let mut raw = RawClient::logged_in(port, &Login::new("anybody", "whatever")).await;
        let told = raw.query("SELECT c FROM sbtest WHERE id=3").await.unwrap();
        let mut real = RawClient::logged_in(server.port(), &Login::new(APP.user, APP.pass)).await;
        assert_eq!(told, real.query("SELECT c FROM app.sbtest WHERE id=3").await.unwrap());
        // What it was not asked before, and an error.
        let told = raw.query("SELECT 1, 'x' UNION SELECT 2, 'y'").await.unwrap();
        assert_eq!(told, real.query("SELECT 1, 'x' UNION SELECT 2, 'y'").await.unwrap());
        assert!(raw.query("SELECT nonsense").await.unwrap()[0].is_err());
        raw.command(command::RESET_CONNECTION, &[]).await.unwrap();
        assert!(raw.read().await.unwrap().is_ok());
    }
}
