//! Bringing one command to a server: which one, and what becomes of it where that cannot be used.

use std::time::{Duration, Instant};

use policy::partition::Place;
use policy::route::{Access, Decision, Held, Refusal, Tried, route};
use policy::session::Pins;
use policy::topology::ServerId;
use policy::view::{Partition, View};
use sql::{Kind, Statement};
use telemetry::Target;
use wire::command::ReplyKind;
use wire::error::ClientError;
use wire::reply::ReplyEnd;

use super::hold::{Kept, Waited, waits_for};
use super::unavailable::Unavailable;
use super::{Flow, Session};
use crate::Report;
use crate::backend::restore::RestoreError;
use crate::backend::verdict::{Verdict, verdict};
use crate::clock::now;
use crate::refusal;

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
    /// The partition that it belongs to, in the configuration of this number.
    pub(crate) place: Place,
    pub(crate) generation: u64,
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
#[derive(Debug)]
struct Failed {
    /// Since when they are tried.
    since: Instant,
    causes: Vec<(ServerId, String)>,
    /// What the first of them said that refused the client's own account.
    account: Option<ClientError>,
    /// The statement waits for the master, or did.
    held: Option<Kept>,
    /// It was sent to a server that was then lost.
    sent: bool,
    /// How often a connection was lost with it.
    falls: u32,
}

impl Failed {
    fn none(since: Instant) -> Self {
        let (account, held) = (None, None);
        Self { since, causes: Vec::new(), account, held, sent: false, falls: 0 }
    }

    /// All servers may be tried again.
    fn forget(&mut self) {
        *self = Self { held: self.held.take(), sent: self.sent, ..Self::none(now()) };
    }

    /// Whether nothing was tried in vain: the clock need not be looked at then.
    fn is_none(&self) -> bool {
        self.causes.is_empty() && self.falls == 0
    }

    /// A connection to a server was lost, and nothing came of the statement.
    fn fell(&mut self, server: ServerId, sent: bool) {
        self.sent |= sent;
        // How long a server that hangs kept the statement is not held against the others. A
        // statement is sent again once.
        if sent {
            self.since = now();
        }
        self.falls += 1;
        // A server that takes connections and loses them again is left for another.
        if self.falls > 1 {
            self.add(server, "it lost the connection".to_owned());
        }
    }

    fn add(&mut self, server: ServerId, cause: String) {
        self.causes.push((server, cause));
    }

    /// Whether the master is all that failed: however long it took, another server gets its turn.
    fn is_only(&self, view: &View, master: Option<usize>) -> bool {
        let master = master.and_then(|at| view.servers.get(at)).map(|server| server.id);
        !self.causes.is_empty() && self.causes.iter().all(|(server, _)| Some(*server) == master)
    }

    /// Those of them that the view has.
    fn tried(&self, view: &View) -> Tried {
        let mut tried = Tried::default();
        for (server, _) in &self.causes {
            if let Some(at) = view.position(*server) {
                tried.add(at);
            }
        }
        tried
    }
}

/// A statement that goes nowhere at present, and where that was looked up.
struct Refused<'a> {
    refusal: Refusal,
    view: &'a View,
    partition: &'a Partition,
}

/// How long servers are tried for one statement before the client is told that none answers.
const PATIENCE: Duration = Duration::from_millis(1900);

impl Session {
    /// Serves a command: picks the server, brings the session there, sends, and relays the reply.
    pub(super) async fn serve(&mut self, mut request: Request) -> Served {
        self.settle_doubt().await;
        let mut failed = Failed::none(self.active);
        loop {
            if let Some(flow) = self.answer_for_what_is_gone(&request).await {
                return Served::No(flow);
            }
            let view = self.worker.view();
            if !self.follow(&view, &mut request) {
                continue;
            }
            let partition = match self.partition_or_tell(&request, &view).await {
                Ok(found) => found,
                Err(flow) => return Served::No(flow),
            };
            let decision = self.decide(&request, &view, partition, &failed);
            match self.wait_where_needed(&request, &decision, partition, &mut failed).await {
                Waited::Again => continue,
                Waited::Over => {}
                Waited::Killed => {
                    return Served::No(self.tell(&refusal::interrupted_itself()).await);
                }
            }
            let (at, access) = match decision {
                Decision::Forward { server, access, .. } => (server, access),
                Decision::Refuse(refusal) => {
                    self.tell_refused(&request);
                    let about = Refused { refusal, view: &view, partition };
                    return Served::No(self.refuse(&about, failed).await);
                }
            };
            let Some(server) = view.servers.get(at).map(|server| server.id) else { continue };
            let kind = request.statement.class.kind;
            match self.reach((server, at), (access, kind), partition, &mut failed).await {
                Ok(()) => {}
                Err(None) => continue,
                Err(Some(flow)) => return Served::No(flow),
            }
            // While the connection was made the master may have become another, or the schema's
            // home.
            let is_other = self.worker.generation() != view.generation;
            if is_other || access == Access::Write && !self.is_still_master(server) {
                continue;
            }
            // What the server knew that was left for this one is lost by now.
            if let Some(flow) = self.answer_for_memory(&request).await {
                return Served::No(flow);
            }
            request.retried = failed.sent;
            match self.exchange(&request).await {
                Step::Done(end) => {
                    let target = self.count(&request, at, partition);
                    self.tell_answered(&request, target, &end);
                    return Served::Yes(end);
                }
                Step::Answered(flow) => return Served::No(flow),
                Step::Again { sent } => failed.fell(server, sent),
            }
        }
    }

    /// Where a statement goes, as far as there is time to bring it there.
    fn decide(
        &self,
        request: &Request,
        view: &View,
        partition: &Partition,
        failed: &Failed,
    ) -> Decision {
        let patience = PATIENCE.max(self.worker.connect_timeout() * 2);
        let late = !failed.is_none()
            && now() - failed.since > patience
            && !failed.is_only(view, partition.master);
        match self.route(request.route_as, view, partition, failed.tried(view)) {
            Decision::Forward { .. } if late => Decision::Refuse(Refusal::NoServer),
            decision => decision,
        }
    }

    /// Lets a statement wait that goes nowhere at present, or where it had better not go.
    async fn wait_where_needed(
        &mut self,
        request: &Request,
        decision: &Decision,
        partition: &Partition,
        failed: &mut Failed,
    ) -> Waited {
        // Servers that answer, and do not let the client in, are not lost.
        if matches!(decision, Decision::Refuse(_)) && failed.account.is_some() {
            return Waited::Over;
        }
        let Some(refusal) = waits_for(decision, request, self) else { return Waited::Over };
        // Apart, since it is seldom needed and would make every session's task larger.
        let waited = Box::pin(self.hold(refusal, partition, &mut failed.held)).await;
        if waited == Waited::Again {
            failed.forget();
        }
        waited
    }

    /// Makes sure that the session holds a connection to a server, which everybody hears of; where
    /// that fails, yields what the client was told unless another server is to be tried.
    async fn reach(
        &mut self,
        (server, at): (ServerId, usize),
        (access, kind): (Access, Kind),
        partition: &Partition,
        failed: &mut Failed,
    ) -> Result<(), Option<Flow>> {
        match self.acquire(server, access, partition.epoch, kind).await {
            Ok(()) => {
                self.report_reached(server, access, partition);
                failed.held.iter_mut().for_each(Kept::is_over);
                Ok(())
            }
            Err(why) => Err(self.do_without((server, at), why, partition, failed).await),
        }
    }

    /// Takes note that a server cannot be used for a statement; yields what the client was told,
    /// where no other server is to be tried.
    async fn do_without(
        &mut self,
        (server, at): (ServerId, usize),
        why: Unavailable,
        partition: &Partition,
        failed: &mut Failed,
    ) -> Option<Flow> {
        let cause = match why {
            Unavailable::Verbatim(error) => return Some(self.tell_verbatim(&error).await),
            // The master knows who may do what; a replica may have let the account in before.
            Unavailable::Account(_, Some(said))
                if !self.worker.has_own_account(server) && partition.master == Some(at) =>
            {
                return Some(self.tell_verbatim(&said).await);
            }
            Unavailable::Account(cause, said) if !self.worker.has_own_account(server) => {
                failed.add(server, cause);
                failed.account = failed.account.take().or(said);
                return None;
            }
            Unavailable::Account(cause, _) | Unavailable::Because(cause) => cause,
        };
        if partition.master == Some(at) {
            self.report_unreachable(server, &cause, partition);
        }
        failed.add(server, cause);
        None
    }

    /// Serves a command that has no reply; whether it reached a server.
    pub(super) async fn deliver_quietly(&mut self, mut request: Request) -> bool {
        self.settle_doubt().await;
        if self.gone.is_some() {
            return false;
        }
        let view = self.worker.view();
        let followed = self.follow(&view, &mut request);
        if !followed && (self.gone.is_some() || !self.follow(&view, &mut request)) {
            return false;
        }
        let Ok(at) = self.partition(&request, &view) else { return false };
        let Some(partition) = view.partitions.get(at) else { return false };
        let decision = self.route(request.route_as, &view, partition, Tried::default());
        let Decision::Forward { server, access, .. } = decision else { return false };
        let Some(server) = view.servers.get(server).map(|server| server.id) else { return false };
        if self.acquire(server, access, partition.epoch, request.route_as).await.is_err() {
            return false;
        }
        if self.worker.generation() != view.generation {
            return false;
        }
        // Known before it is sent: an error now would answer a command that has no answer.
        let Some(id) = request.prepared else { return false };
        match Box::pin(self.prepare_here(id)).await {
            Ok(_) => matches!(self.exchange(&request).await, Step::Done(_)),
            // What comes of it late would be taken for the answer to another command.
            Err(RestoreError::Lost(loss)) => {
                self.lose(&loss);
                false
            }
            Err(RestoreError::Refused(_)) => false,
        }
    }

    pub(super) fn route(
        &self,
        kind: Kind,
        view: &View,
        partition: &Partition,
        tried: Tried,
    ) -> Decision {
        let held = self.backend.as_ref().and_then(|backend| {
            let writes = backend.takes_writes(partition.epoch);
            Some(Held { server: view.position(backend.server)?, writes })
        });
        let session = policy::route::Session {
            held,
            tied: self.is_tied(),
            in_transaction: self.may_be_in_transaction(),
            begins: self.begins(),
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

    async fn refuse(&mut self, about: &Refused<'_>, mut failed: Failed) -> Flow {
        let account = failed.account.take().filter(|_| about.refusal.is_for_want_of_servers());
        if let Some(error) = account {
            return self.tell_verbatim(&error).await;
        }
        let error = self.refusal(about, &failed);
        let flow = self.tell(&error).await;
        let stuck = about.refusal == Refusal::TiedToReplica && self.is_stuck();
        if stuck { Flow::End } else { flow }
    }

    fn refusal(&self, about: &Refused<'_>, failed: &Failed) -> ClientError {
        let Refused { refusal, view, partition } = *about;
        let (metrics, causes) = (&self.worker.metrics, failed.causes.as_slice());
        match refusal {
            Refusal::ReadOnly(reason) => {
                metrics.refused(reason.as_str());
                let master = partition.master.and_then(|at| view.servers.get(at));
                let is_master = |id: &ServerId| master.is_some_and(|master| master.id == *id);
                let cause = causes.iter().find(|(server, _)| is_master(server));
                let cause = cause.map(|(_, cause)| cause.as_str());
                let waited = failed.held.is_some().then(|| now() - self.active);
                refusal::read_only(view, partition, reason, cause, waited)
            }
            Refusal::TiedToReplica => {
                metrics.refused("tied");
                let server = self.backend.as_ref().and_then(|backend| view.server(backend.server));
                let name = server.map_or("", |server| server.name.as_str());
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
    fn report_unreachable(&self, master: ServerId, cause: &str, partition: &Partition) {
        if partition.mode.is_read_write() {
            self.worker.report(Report::Unreachable { server: master, cause: cause.to_owned() });
        }
    }

    fn report_reached(&self, server: ServerId, access: Access, partition: &Partition) {
        if access == Access::Write && !partition.mode.is_read_write() {
            self.worker.report(Report::Reached { server });
        }
    }

    /// Whether nothing that the session can be expected to do sets it free from its server.
    fn is_stuck(&self) -> bool {
        let passing = Pins::TABLE_LOCKS
            .with(Pins::CURSOR)
            .with(Pins::LONG_DATA)
            .with(Pins::NEXT_TRANSACTION)
            .with(Pins::DOUBT);
        !self.in_transaction() && !self.pins.without(passing).is_empty()
    }

    fn count(&self, request: &Request, server: usize, partition: &Partition) -> Target {
        let target =
            if partition.master == Some(server) { Target::Master } else { Target::Replica };
        let took = self.answered.unwrap_or(self.active) - self.active;
        self.worker.metrics.statement(&partition.name, request.statement.class.kind, target, took);
        target
    }
}
