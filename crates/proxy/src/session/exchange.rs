//! One command over the connection in hand, and its reply.

use std::task::Poll;

use sql::{Effects, Kind, Statement};
use wire::capabilities::Capabilities;
use wire::command::{self, ReplyKind};
use wire::reply::ReplyEnd;

use super::lost::{ENDING, TRANSACTIONAL};
use super::statement::{Request, Served, Step};
use super::{Flow, Session};
use crate::Report;
use crate::backend::{Backend, Loss};
use crate::relay::{Ahead, Presence, RelayError, Reply, Turn, relay};

/// Whether a statement may load a file of the client's: one that says so, or runs code that cannot be
/// seen and is no function, which may not.
fn may_load(statement: Statement) -> bool {
    let runs_code = statement.effects.contains(Effects::UNKNOWN_FUNCTION)
        && statement.class.kind == Kind::Write;
    runs_code || statement.effects.contains(Effects::LOCAL_INFILE)
}

/// The reply to a command that goes over this connection, before its first byte.
fn expected(
    request: &Request,
    backend: &Backend,
    client: Capabilities,
    presence: Presence,
) -> Reply {
    let known = request.prepared.and_then(|id| backend.prepared.get(&id));
    let definitions = known.and_then(|known| known.definitions.clone());
    let mut reply = Reply::new(request.reply, backend.agreed, client, presence, definitions);
    reply.may_want_file = may_load(request.statement);
    reply
}

impl Session {
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

    /// Sends the command over the connection in hand and relays the reply.
    pub(super) async fn exchange(&mut self, request: &Request) -> Step {
        if let Some(loss) = self.lost_meanwhile().await {
            self.lose(&loss);
            return Step::Again { sent: false };
        }
        let is_known = |backend: &Backend| {
            request.prepared.is_none_or(|id| backend.prepared.contains_key(&id))
        };
        let waits = !self.backend.as_ref().is_some_and(is_known);
        if let Err(step) = self.ready_prepared(request).await {
            return step;
        }
        // Preparing takes time, in which the master may have become another.
        if waits && let Some(loss) = self.lost_meanwhile().await {
            self.lose(&loss);
            return Step::Again { sent: false };
        }
        if request.generation != self.worker.generation() && request.prepared.is_some() {
            return Step::Again { sent: false };
        }
        let presence = self.presence(request);
        let Some(backend) = &mut self.backend else { return Step::Again { sent: false } };
        let mut reply = expected(request, backend, self.client.capabilities, presence);
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
                self.reported = reply.take_changes();
                self.note_definitions(request, &reply);
                self.memory.note_rows(request.statement, &reply);
                Step::Done(end)
            }
            Err(RelayError::Client) => Step::Answered(Flow::End),
            Err(RelayError::ClientLeft) => {
                Box::pin(self.kill_what_runs()).await;
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
                    let sent = self.send_file(reply.ahead()).await;
                    reply.before_file = Some(reply.sent);
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

    /// Whether a statement is worth going on with once its client has left. Clients send a write and
    /// leave, and a server by itself comes to its end; but what can leave nothing behind only holds
    /// up others.
    fn presence(&self, request: &Request) -> Presence {
        let statement = request.statement;
        let class = statement.class;
        let plain = class.kind != Kind::Write || TRANSACTIONAL.contains(&class.because);
        let undone = self.in_transaction()
            && !self.is_in_doubt()
            && plain
            && !statement.effects.intersects(ENDING.union(Effects::UNKNOWN_FUNCTION))
            && class.kind != Kind::Commit;
        let reads = matches!(statement.class.kind, Kind::Read | Kind::OwnRead | Kind::LockingRead)
            && !statement.effects.intersects(Effects::UNKNOWN_FUNCTION.union(Effects::SEVERAL));
        if undone || reads { Presence::Needed } else { Presence::Optional }
    }
}
