//! Brings statements to their answers, for `opensrv-mysql`.

use std::io;
use std::sync::Arc;

use async_trait::async_trait;
use opensrv_mysql::{
    AsyncMysqlShim, Column, ColumnFlags, ColumnType, ErrorKind, InitWriter, OkResponse,
    ParamParser, QueryResultWriter, StatementMetaWriter,
};
use tokio::io::AsyncWrite;

use super::answer::{Answer, Table, answer};
use super::command::parse;
use super::habits::{self, Connection, without_leading_comments};
use super::login::{Operator, version};
use crate::actions::NO_TOKEN;
use crate::web::Console;

/// One client.
pub(super) struct Shim {
    pub(super) console: Arc<Console>,
    pub(super) operator: Operator,
    pub(super) id: u32,
}

impl Shim {
    async fn answer(&self, text: &str) -> Answer {
        let text = without_leading_comments(text);
        if let Some(command) = parse(text) {
            if command.is_order() && !self.operator.may_order(&self.console) {
                return self.refuse(command.name());
            }
            return answer(&self.console, command, &self.operator.by).await;
        }
        let version = version(&self.console);
        let connection = Connection {
            id: self.id,
            user: &self.operator.user,
            version: &version,
            host: &self.console.host,
        };
        habits::answer(text, connection).unwrap_or_else(|| {
            let text = "this is failsoft's admin console, which has no such statement; SHOW HELP \
                        lists those that it has";
            Answer::error(1064, text)
        })
    }

    fn refuse(&self, what: &str) -> Answer {
        let why = match *self.console.token.borrow() {
            None => NO_TOKEN,
            Some(_) => "log in with the token (admin.token) as the password",
        };
        self.console.note_refused(what, &self.operator.by, why);
        Answer::error(1227, format!("an order needs more than to be logged in: {why}"))
    }
}

#[async_trait]
impl<W: AsyncWrite + Send + Unpin> AsyncMysqlShim<W> for Shim {
    type Error = io::Error;

    async fn on_prepare<'a>(
        &'a mut self,
        _: &'a str,
        reply: StatementMetaWriter<'a, W>,
    ) -> io::Result<()> {
        let text = "the admin console prepares no statements; send them as text";
        reply.error(ErrorKind::ER_UNSUPPORTED_PS, text.as_bytes()).await
    }

    async fn on_execute<'a>(
        &'a mut self,
        _: u32,
        _: ParamParser<'a>,
        reply: QueryResultWriter<'a, W>,
    ) -> io::Result<()> {
        reply.error(ErrorKind::ER_UNKNOWN_STMT_HANDLER, b"there is no such statement").await
    }

    async fn on_close(&mut self, _: u32) {}

    async fn on_query<'a>(
        &'a mut self,
        text: &'a str,
        reply: QueryResultWriter<'a, W>,
    ) -> io::Result<()> {
        match self.answer(text).await {
            Answer::Table(table) => write(table, reply).await,
            // Without a text: it would be written without its length, which clients do not take.
            Answer::Done => reply.completed(OkResponse::default()).await,
            Answer::Error { code, text } => {
                let kind = match code {
                    1064 => ErrorKind::ER_PARSE_ERROR,
                    1193 => ErrorKind::ER_UNKNOWN_SYSTEM_VARIABLE,
                    1227 => ErrorKind::ER_SPECIFIC_ACCESS_DENIED_ERROR,
                    _ => ErrorKind::ER_UNKNOWN_ERROR,
                };
                reply.error(kind, text.as_bytes()).await
            }
        }
    }

    async fn on_init<'a>(&'a mut self, _: &'a str, reply: InitWriter<'a, W>) -> io::Result<()> {
        reply.ok().await
    }
}

async fn write<W: AsyncWrite + Send + Unpin>(
    table: Table,
    reply: QueryResultWriter<'_, W>,
) -> io::Result<()> {
    let column = |name: &String| Column {
        table: String::new(),
        column: name.clone(),
        coltype: ColumnType::MYSQL_TYPE_VAR_STRING,
        colflags: ColumnFlags::empty(),
    };
    let columns: Vec<Column> = table.columns.iter().map(column).collect();
    let mut rows = reply.start(&columns).await?;
    for row in table.rows {
        rows.write_row(row).await?;
    }
    rows.finish().await
}
