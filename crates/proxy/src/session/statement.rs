//! Bringing one command to a server, and its reply back.

use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use policy::partition::Place;
use policy::route::{Access, Decision, Held, Refusal, Tried, route};
use policy::session::Pins;
use policy::view::{Partition, View};
use sql::{Effects, Kind, Statement};
use telemetry::Target;
use wire::command::{self, ReplyKind};
use wire::error::ClientError;
use wire::reply::{ReplyEnd, ReplyTracker};

use super::lost::{ENDING, TRANSACTIONAL};
use super::unavailable::{Unavailable, is_bad_schema};
use super::{Flow, Session};
use crate::Report;
use crate::backend::connect::{self, Wanted};
use crate::backend::restore::{RestoreError, restore, within};
use crate::backend::verdict::{Verdict, verdict};
use crate::backend::{Backend, ConnectError, Loss};
use crate::clock::now;
use crate::refusal;
use crate::relay::{Ahead, Presence, RelayError, Reply, Turn, relay};

/// A command that wants a server.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Request {
    /// The command's code.
    pub(crate) code: u8,
    /// What comes back.
    pub(crate) reply: ReplyKind,
    /// What it does.
    pub(crate) statement: Statement,
    /// What it is routed as: a preparation does nothing, and goes where its statement will.
    pub(crate) route_as: Kind,
    /// The partition that it belongs to.
    pub(crate) place: Place,
    /// The prepared statement it is about, by failsoft's id.
    pub(crate) prepared: Option<u32>,
    /// It was sent to a server that was then lost.
    pub(crate) retried: bool,
}

/// How a command came out.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Served {
    /// The server answered.
    Yes(ReplyEnd),
    /// failsoft answered.
    No(Flow),
}

/// Where an attempt to serve a command leads.
pub(crate) enum Step {
    /// To the server's answer.
    Done(ReplyEnd),
    /// To an answer of our own.
    Answered(Flow),
    /// To another attempt: nothing came of this one.
    Again {
        /// The command had left, at least in part.
        sent: bool,
    },
}

/// The servers that failed a statement, and why.
#[derive(Debug, Default)]
struct Failed {
    tried: Tried,
    causes: Vec<(usize, String)>,
    /// What the first of them said that refused the client's own account.
    account: Option<ClientError>,
}

impl Failed {
    fn add(&mut self, server: usize, cause: String) {
        self.tried.add(server);
        self.causes.push((server, cause));
    }
}

/// How long servers are tried for one statement before the client is told that none answers.
const PATIENCE: Duration = Duration::from_millis(1900);

impl Session {
    /// Serves a command: picks the server, brings the session there, sends, and relays the reply.
    pub(super) async fn serve(&mut self, request: Request) -> Served {
        let start = now();
        let patience = PATIENCE.max(self.worker.settings.connect_timeout * 2);
        let mut failed = Failed::default();
        let (mut attempts, mut retried) = (0, false);
        loop {
            if let Some(flow) = self.answer_for_what_is_gone(&request).await {
                return Served::No(flow);
            }
            let view = self.worker.view();
            if self.leave_stale_master(&view) {
                continue;
            }
            let (at, partition) = match self.partition_or_tell(&request, &view).await {
                Ok(found) => found,
                Err(flow) => return Served::No(flow),
            };
            let decision = match now() - start > patience {
                true => Decision::Refuse(Refusal::NoServer),
                false => self.route(request.route_as, partition, failed.tried),
            };
            let (server, access) = match decision {
                Decision::Forward { server, access, .. } => (server, access),
                Decision::Refuse(refusal) => {
                    // Servers that answer, and do not let the client in, are not lost.
                    let flow = match failed.account.filter(|_| refusal.is_for_want_of_servers()) {
                        Some(error) => self.tell_verbatim(&error).await,
                        None => self.refuse(refusal, &view, partition, &failed.causes).await,
                    };
                    return Served::No(flow);
                }
            };
            match self.acquire(server, access, partition.epoch).await {
                Ok(()) => self.report_reached(server, access, partition),
                Err(why) => match self.do_without(server, why, partition, &mut failed).await {
                    Some(flow) => return Served::No(flow),
                    None => continue,
                },
            }
            // While the connection was made the master may have become another.
            if access == Access::Write && !self.is_still_master(server) {
                continue;
            }
            let request = Request { retried, ..request };
            match self.exchange(&request).await {
                Step::Done(end) => {
                    self.count(&request, server, at, partition);
                    return Served::Yes(end);
                }
                Step::Answered(flow) => return Served::No(flow),
                Step::Again { sent } => {
                    retried |= sent;
                    attempts += 1;
                    // A server that takes connections and loses them again is left for another.
                    if attempts > 1 {
                        failed.add(server, "it lost the connection".to_owned());
                    }
                }
            }
        }
    }

    /// Takes note that a server cannot be used for a statement; yields what the client was told,
    /// where no other server is to be tried.
    async fn do_without(
        &mut self,
        server: usize,
        why: Unavailable,
        partition: &Partition,
        failed: &mut Failed,
    ) -> Option<Flow> {
        let cause = match why {
            Unavailable::Verbatim(error) => return Some(self.tell_verbatim(&error).await),
            // The master knows who may do what; a replica may have let the account in before.
            Unavailable::Account(_, Some(said))
                if !self.has_own_account(server) && partition.master == Some(server) =>
            {
                return Some(self.tell_verbatim(&said).await);
            }
            Unavailable::Account(cause, said) if !self.has_own_account(server) => {
                failed.add(server, cause);
                failed.account = failed.account.take().or(said);
                return None;
            }
            Unavailable::Account(cause, _) | Unavailable::Because(cause) => cause,
        };
        self.report_unreachable(server, &cause, partition);
        failed.add(server, cause);
        None
    }

    /// Serves a command that concerns the connection in hand, wherever that leads.
    pub(super) async fn exchange_held(&mut self, request: Request) -> Served {
        match self.exchange(&request).await {
            Step::Done(end) => Served::Yes(end),
            Step::Answered(flow) => Served::No(flow),
            // The connection was lost, so there is nothing left that it could concern.
            Step::Again { .. } => Served::No(match self.answer_for_loss(request.statement).await {
                Some(flow) => flow,
                None => self.tell_ok().await,
            }),
        }
    }

    /// Serves a command that has no reply; whether it reached a server.
    pub(super) async fn deliver_quietly(&mut self, request: Request) -> bool {
        if self.gone.is_some() {
            return false;
        }
        let view = self.worker.view();
        if self.leave_stale_master(&view) && self.gone.is_some() {
            return false;
        }
        let Ok(at) = self.partition(&request, &view) else { return false };
        let Some(partition) = view.partitions.get(at) else { return false };
        let decision = self.route(request.route_as, partition, Tried::default());
        let Decision::Forward { server, access, .. } = decision else { return false };
        if self.acquire(server, access, partition.epoch).await.is_err() {
            return false;
        }
        // Known before it is sent: an error now would answer a command that has no answer.
        let Some(id) = request.prepared else { return false };
        match self.prepare_here(id).await {
            Ok(_) => matches!(self.exchange(&request).await, Step::Done(_)),
            // What comes of it late would be taken for the answer to another command.
            Err(RestoreError::Lost(loss)) => {
                self.lose(&loss);
                false
            }
            Err(RestoreError::Refused(_)) => false,
        }
    }

    pub(super) fn route(&self, kind: Kind, partition: &Partition, tried: Tried) -> Decision {
        let held = self.backend.as_ref().map(|backend| Held {
            server: backend.server,
            writes: backend.takes_writes(partition.epoch),
        });
        let session = policy::route::Session {
            held,
            tied: self.is_tied(),
            spread: self.client.admission.id.into(),
            tried,
        };
        route(kind, &session, partition)
    }

    /// Passes on what a server has against the session. Where it is the schema that the login
    /// named, a server would not have let the client in at all.
    async fn tell_verbatim(&mut self, error: &ClientError) -> Flow {
        let flow = self.tell(error).await;
        let login = verdict(error.code) == Verdict::Session && !self.carried.schema_is_known;
        if login { Flow::End } else { flow }
    }

    async fn refuse(
        &mut self,
        refusal: Refusal,
        view: &View,
        partition: &Partition,
        causes: &[(usize, String)],
    ) -> Flow {
        let error = self.refusal(refusal, view, partition, causes);
        let flow = self.tell(&error).await;
        let stuck = refusal == Refusal::TiedToReplica && self.is_stuck();
        if stuck { Flow::End } else { flow }
    }

    fn refusal(
        &self,
        refusal: Refusal,
        view: &View,
        partition: &Partition,
        causes: &[(usize, String)],
    ) -> ClientError {
        let metrics = &self.worker.metrics;
        match refusal {
            Refusal::ReadOnly(reason) => {
                metrics.refused(reason.as_str());
                let cause = causes.iter().find(|(at, _)| Some(*at) == partition.master);
                let cause = cause.map(|(_, cause)| cause.as_str());
                refusal::read_only(view, partition, reason, cause)
            }
            Refusal::TiedToReplica => {
                metrics.refused("tied");
                let server = self.backend.as_ref().map_or(0, |backend| backend.server);
                let name = view.servers.get(server).map_or("", |server| server.name.as_str());
                match self.pins {
                    pins if self.is_stuck() => refusal::stuck_on_replica(name, &pins.words()),
                    Pins::NONE => refusal::tied_to_replica(name, "its open transaction"),
                    pins => refusal::tied_to_replica(name, &pins.words()),
                }
            }
            Refusal::NoServer => {
                metrics.refused("no_server");
                refusal::no_server(view, partition, causes)
            }
        }
    }

    /// The brief degradation before the checks have noticed is shown to everybody.
    fn report_unreachable(&self, server: usize, cause: &str, partition: &Partition) {
        if partition.mode.is_read_write() && partition.master == Some(server) {
            self.worker.report(Report::Unreachable { server, cause: cause.to_owned() });
        }
    }

    /// Whether all sessions log in to the server with one account, which is not their own.
    fn has_own_account(&self, server: usize) -> bool {
        self.worker.settings.servers.get(server).is_some_and(|server| server.account.is_some())
    }

    fn report_reached(&self, server: usize, access: Access, partition: &Partition) {
        if access == Access::Write && !partition.mode.is_read_write() {
            self.worker.report(Report::Reached { server });
        }
    }

    /// Whether a statement is worth going on with once its client has left. Clients send a write and
    /// leave, and a server by itself comes to its end; but what can leave nothing behind only holds
    /// up others.
    fn presence(&self, request: &Request) -> Presence {
        let statement = request.statement;
        let class = statement.class;
        let plain = class.kind != Kind::Write || TRANSACTIONAL.contains(&class.because);
        let undone = self.in_transaction()
            && plain
            && !statement.effects.intersects(ENDING.union(Effects::UNKNOWN_FUNCTION))
            && class.kind != Kind::Commit;
        let reads = matches!(statement.class.kind, Kind::Read | Kind::OwnRead | Kind::LockingRead)
            && !statement.effects.intersects(Effects::UNKNOWN_FUNCTION.union(Effects::SEVERAL));
        if undone || reads { Presence::Needed } else { Presence::Optional }
    }

    /// Whether nothing that the session can be expected to do sets it free from its server.
    fn is_stuck(&self) -> bool {
        let passing =
            Pins::TABLE_LOCKS.with(Pins::CURSOR).with(Pins::LONG_DATA).with(Pins::NEXT_TRANSACTION);
        !self.in_transaction() && !self.pins.without(passing).is_empty()
    }

    /// Makes sure that the session holds a connection to the server that is good for this.
    async fn acquire(
        &mut self,
        server: usize,
        access: Access,
        epoch: u64,
    ) -> Result<(), Unavailable> {
        if let Some(backend) = &self.backend {
            let fits = match access {
                Access::Held => true,
                Access::Write => backend.takes_writes(epoch),
                Access::Read => backend.epoch.is_none(),
            };
            if backend.server == server && fits {
                return Ok(());
            }
        }
        let epoch = (access == Access::Write).then_some(epoch);
        let mut backend = self.open(server, epoch).await?;
        let limit = self.worker.settings.connect_timeout;
        within(limit, restore(&mut backend, &self.carried, access)).await?;
        backend.held_by(self.client.admission.id);
        let has_schema = self.schema_on(server).len() == self.carried.schema.len();
        self.carried.schema_is_known |= has_schema;
        if self.carried.settings.is_empty() {
            self.set_status(backend.status);
        }
        if let Some(old) = self.backend.replace(backend) {
            let from = self.server_name(old.server);
            self.memory.lose(&from, "the session moved to another server");
            old.close();
        }
        Ok(())
    }

    async fn open(&self, server: usize, epoch: Option<u64>) -> Result<Backend, Rc<ConnectError>> {
        let mut wanted = Wanted {
            server,
            epoch,
            account: &self.client.account,
            capabilities: self.client.capabilities.and(wire::capabilities::Capabilities::CARRIED),
            collation: self.client.collation,
            schema: self.schema_on(server),
            user_was_changed: self.carried.user_was_changed,
            attributes: &self.client.attributes,
            ends: self.client.ends,
        };
        let opened = connect::open(&self.worker, wanted).await;
        match &opened {
            // It was there once: it was dropped, or this server has not got it yet. As on a server
            // whose current schema is dropped, the session goes on without one.
            Err(error) if self.carried.schema_is_known && is_bad_schema(error) => {
                wanted.schema = b"";
                connect::open(&self.worker, wanted).await
            }
            _ => opened,
        }
    }

    /// Sends the command over the connection in hand and relays the reply.
    async fn exchange(&mut self, request: &Request) -> Step {
        if let Some(loss) = self.lost_meanwhile().await {
            self.lose(&loss);
            return Step::Again { sent: false };
        }
        if let Err(step) = self.ready_prepared(request).await {
            return step;
        }
        let mut reply = Reply {
            tracker: ReplyTracker::new(request.reply, self.carried.deprecate_eof),
            sent: 0,
            first_byte: None,
            read_only: false,
            after_file: false,
            broken: false,
            presence: self.presence(request),
        };
        let Some(backend) = &mut self.backend else { return Step::Again { sent: false } };
        let bytes = self.input.get(..self.command_len).unwrap_or_default();
        let mut sent = 0;
        if let Err(loss) = backend.send(bytes, &mut sent).await
            && sent == 0
        {
            self.lose(&loss);
            return Step::Again { sent: false };
        }
        // A server that gives up on a command in the middle says why before it hangs up, so its
        // reply is looked for even where the command did not leave in full.
        if request.reply == ReplyKind::Nothing {
            return Step::Done(ReplyEnd::default());
        }
        match self.relay_reply(request, &mut reply).await {
            Ok(end) => {
                self.answered = reply.first_byte;
                self.worker.metrics.bytes(self.command_len, reply.sent);
                self.note_read_only(request.statement, &reply);
                Step::Done(end)
            }
            Err(RelayError::Client) => Step::Answered(Flow::End),
            Err(RelayError::ClientLeft) => {
                self.kill_what_runs().await;
                Step::Answered(Flow::End)
            }
            Err(RelayError::Server(loss)) => self.lost_in_flight(request, &reply, &loss).await,
        }
    }

    async fn relay_reply(
        &mut self,
        request: &Request,
        reply: &mut Reply,
    ) -> Result<ReplyEnd, RelayError> {
        if request.code == command::STMT_PREPARE {
            self.take_prepared(request).await?;
        }
        loop {
            let Some(backend) = &mut self.backend else {
                return Err(Loss("there is no connection".to_owned()).into());
            };
            let ahead = Ahead { input: &mut self.input, command_len: self.command_len };
            match relay(backend, &mut self.client.stream, ahead, reply).await? {
                Turn::Reply(end) => return Ok(end),
                Turn::File => {
                    let sent = self.send_file().await;
                    reply.after_file = true;
                    sent?;
                }
            }
        }
    }

    /// Whether the server hung up since the last command. Costs no system call where it did not.
    async fn lost_meanwhile(&mut self) -> Option<Loss> {
        let backend = self.backend.as_mut()?;
        std::future::poll_fn(|cx| match backend.poll_lost(cx) {
            Poll::Ready(loss) => Poll::Ready(Some(loss)),
            Poll::Pending => Poll::Ready(None),
        })
        .await
    }

    /// The master itself refused a write because it is read-only: everybody has to know at once.
    fn note_read_only(&self, statement: Statement, reply: &Reply) {
        let Some(backend) = &self.backend else { return };
        let writes = matches!(statement.class.kind, Kind::Write | Kind::LockingRead | Kind::Commit);
        if reply.read_only && writes && backend.epoch.is_some() {
            self.worker.report(Report::RefusedWrite { server: backend.server });
        }
    }

    fn count(&self, request: &Request, server: usize, at: usize, partition: &Partition) {
        let target =
            if partition.master == Some(server) { Target::Master } else { Target::Replica };
        let took = self.answered.unwrap_or(self.active) - self.active;
        self.worker.metrics.statement(at, request.statement.class.kind, target, took);
    }
}
