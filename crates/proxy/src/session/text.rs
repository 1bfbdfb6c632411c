//! The text of the present command's statement, and how it is to be read.

use std::borrow::Cow;

use sql::{Dialect, Effects, KillTarget, Statement};
use wire::attributes::text_at;
use wire::capabilities::Capabilities;
use wire::frame::{HEADER_LEN, join_frames};
use wire::status::NO_BACKSLASH_ESCAPES;

use super::Session;
use super::state::classify;

/// The effects for which a statement's text is needed once it succeeded.
pub(super) const NEED_TEXT: Effects = Effects::SET.union(Effects::USE).union(Effects::SET_ONCE);

impl Session {
    /// Classifies the statement of the present command; yields its text too, where that is needed
    /// later.
    pub(super) fn read_statement(
        &self,
        may_have_attributes: bool,
    ) -> Result<(Statement, Option<Vec<u8>>), String> {
        let payload = self.whole_payload();
        let sql = payload.get(self.text_at(may_have_attributes, &payload)?..).unwrap_or_default();
        let no_backslashes = self.status & NO_BACKSLASH_ESCAPES != 0;
        let statement = classify(sql, self.carried.unsafe_charset, no_backslashes);
        let text = statement.effects.intersects(NEED_TEXT).then(|| sql.to_vec());
        Ok((statement, text))
    }

    /// Where the statement's text begins in a command's payload.
    pub(super) fn text_at(
        &self,
        may_have_attributes: bool,
        payload: &[u8],
    ) -> Result<usize, String> {
        let attributes = may_have_attributes
            && self.client.capabilities.contains(Capabilities::QUERY_ATTRIBUTES);
        if attributes { text_at(payload).map_err(|e| e.to_string()) } else { Ok(1) }
    }

    /// Whose end the statement of the present command asks for, if it is a `KILL`.
    pub(super) fn kill_target(&self) -> Option<KillTarget> {
        let payload = self.whole_payload();
        let sql = payload.get(self.text_at(true, &payload).ok()?..)?;
        sql::kill_target(sql, self.dialect())
    }

    /// How the session's statements are to be read.
    pub(super) fn dialect(&self) -> Dialect {
        Dialect {
            no_backslash_escapes: self.status & NO_BACKSLASH_ESCAPES != 0,
            unsafe_charset: self.carried.unsafe_charset,
            ..Dialect::default()
        }
    }

    /// The command's payload; only one of several frames is copied.
    pub(super) fn whole_payload(&self) -> Cow<'_, [u8]> {
        let first = self.payload();
        if first.len() + HEADER_LEN == self.command_len {
            Cow::Borrowed(first)
        } else {
            Cow::Owned(join_frames(self.input.get(..self.command_len).unwrap_or_default()))
        }
    }
}
