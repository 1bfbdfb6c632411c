//! A unit under way: what its client may conclude from each answer.
//!
//! ```text
//!            answer OK                    last statement
//!   ┌──── under way ───▶ under way ─ … ─▶ finished
//!   │ error, or the connection ends
//!   └────▶ finished, with what is left to do: nothing, ROLLBACK, a new connection
//! ```

use crate::promise::{Meaning, Outcome};
use crate::unit::{Told, Verdict};

/// What a statement is to its unit.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Role {
    /// It changes nothing but the session, and works in read-only mode too: SET, PREPARE, BEGIN.
    SetUp,
    /// It reads.
    Read,
    /// It writes.
    Write,
    /// It commits.
    Commit,
    /// It rolls back.
    Rollback,
}

/// What a trial has to know about a statement.
#[derive(Clone, Debug)]
pub struct Asked {
    /// What it is to its unit.
    pub role: Role,
    /// How many of the unit's steps each of its results stands for: `[1]` for a statement, or the
    /// COMMIT of a transaction, `[1, 1]` for two statements in one packet.
    pub marks: Vec<usize>,
    /// It commits what is open before it does its own work: DDL.
    pub commits_first: bool,
}

/// What is left to do when a unit is finished.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum After {
    /// The next statement.
    Next,
    /// Nothing.
    Done,
    /// ROLLBACK; the flag says that failsoft rolled back already, so that COMMIT has to fail.
    RollBack {
        /// COMMIT must get 1213 as well.
        told: bool,
    },
    /// A new connection.
    Reconnect,
}

/// A unit under way.
#[derive(Clone, Debug, Default)]
pub struct Trial {
    told: Told,
    verdict: Option<Verdict>,
}

impl Trial {
    /// Takes note of how a statement ended, after so many of its results had come.
    ///
    /// # Errors
    /// failsoft never promised to say this here.
    pub fn hear(
        &mut self,
        asked: &Asked,
        results: usize,
        outcome: &Outcome,
    ) -> Result<After, String> {
        let came = |results: usize| asked.marks.iter().take(results).sum::<usize>();
        let before = self.told.least;
        let all = before + came(asked.marks.len());
        let done = before + came(results.min(asked.marks.len()));
        let never = || Err(format!("never promised: {}", outcome.words()));
        let (most, verdict, after) = match outcome {
            Outcome::Ok if results < asked.marks.len() => {
                return Err(format!("{results} results instead of {}", asked.marks.len()));
            }
            Outcome::Ok => {
                self.told = Told { least: all, most: all };
                return Ok(After::Next);
            }
            Outcome::Malformed(_) | Outcome::Late => return never(),
            Outcome::Closed if all > done => (all, Verdict::ClosedDuring, After::Reconnect),
            Outcome::Closed => (done, Verdict::ClosedBefore, After::Reconnect),
            Outcome::Error { .. } => {
                let Some(promise) = outcome.promise() else { return never() };
                let is_free = matches!(asked.role, Role::Read | Role::SetUp | Role::Rollback);
                // Outside a transaction there is nothing to roll back.
                let stands_alone = asked.role == Role::Write && all > before;
                // Of a procedure with several writes nobody says at which of them it stopped.
                let mark = asked.marks.get(results).copied().unwrap_or(0);
                let is_vague = !promise.ours && (mark > 1 || asked.commits_first);
                let stopped = if is_vague { all } else { done };
                let undo = After::RollBack { told: false };
                match promise.meaning {
                    Meaning::Refused if is_free && promise.code == 1290 => return never(),
                    Meaning::Refused if is_vague => (stopped, Verdict::Failed, undo),
                    Meaning::Refused => (done, Verdict::NotExecuted, undo),
                    Meaning::Over => (done, Verdict::NotExecuted, After::Reconnect),
                    Meaning::RolledBack if asked.role == Role::Rollback => return never(),
                    Meaning::RolledBack if stands_alone && promise.ours => return never(),
                    Meaning::RolledBack => {
                        (stopped, Verdict::RolledBack, After::RollBack { told: promise.ours })
                    }
                    Meaning::Unknown if asked.role == Role::Read => return never(),
                    Meaning::Unknown => (all, Verdict::Unknown, undo),
                    Meaning::Interrupted if asked.role == Role::Write => return never(),
                    Meaning::Interrupted => (done, Verdict::Failed, undo),
                    Meaning::Failed => (stopped, Verdict::Failed, undo),
                    Meaning::Killed => (done + mark.max(stopped - done), Verdict::Failed, undo),
                }
            }
        };
        self.told = Told { least: done, most };
        self.verdict = Some(verdict);
        Ok(after)
    }

    /// What the client was told, in range and word, of a unit with so many steps that was finished.
    #[must_use]
    pub fn conclude(&self, steps: usize) -> (Told, Verdict) {
        let verdict = match self.verdict {
            _ if steps > 0 && self.told.least == steps => Verdict::Ok,
            Some(verdict) => verdict,
            None => Verdict::RolledBack,
        };
        (self.told, verdict)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(role: Role, marks: &[usize]) -> Asked {
        Asked { role, marks: marks.to_vec(), commits_first: false }
    }

    fn error(code: u16, state: &str, text: &str) -> Outcome {
        Outcome::Error { code, state: state.to_owned(), text: text.to_owned() }
    }

    /// A statement's letter: `s`et-up, `r`ead, `w`rite, `c`ommit, `b` for rollback; an answer's:
    /// `.` OK, `n` refused by failsoft, `s` by the server, `a`borted, `u`nknown, `i`nterrupted,
    /// `k`illed, `o`ver, `x` closed.
    fn play(
        script: &[(char, &[usize], usize, char)],
    ) -> Result<(usize, usize, Verdict, After), String> {
        let mut trial = Trial::default();
        let mut after = After::Done;
        let steps = script.iter().flat_map(|(_, marks, ..)| *marks).sum();
        for (letter, marks, results, answer) in script {
            let role = match letter {
                's' => Role::SetUp,
                'r' => Role::Read,
                'w' => Role::Write,
                'c' => Role::Commit,
                _ => Role::Rollback,
            };
            let outcome = match answer {
                '.' => Outcome::Ok,
                'n' => error(1290, "HY000", "(failsoft: read-only)"),
                's' => error(1290, "HY000", "the --read-only option"),
                'a' => error(1213, "40001", "Transaction was rolled back: x"),
                'u' => error(1180, "08007", "Outcome unknown: x"),
                'i' => error(1317, "70100", "Result interrupted: x"),
                'k' => error(1927, "70100", "Connection was killed"),
                'o' => error(1053, "08S01", "Session state lost: x"),
                'x' => Outcome::Closed,
                _ => error(1064, "42000", "You have an error"),
            };
            after = trial.hear(&asked(role, marks), *results, &outcome)?;
            if after != After::Next {
                break;
            }
        }
        let (told, verdict) = trial.conclude(steps);
        Ok((told.least, told.most, verdict, after))
    }

    #[test]
    fn single_statements() {
        use Verdict::{ClosedDuring, Failed, NotExecuted, Ok as Fine, Unknown};
        let untold = After::RollBack { told: false };
        for (answer, least, most, verdict, after) in [
            ('.', 1, 1, Fine, After::Next),
            ('n', 0, 0, NotExecuted, untold),
            ('u', 0, 1, Unknown, untold),
            ('k', 0, 1, Failed, untold),
            ('o', 0, 0, NotExecuted, After::Reconnect),
            ('x', 0, 1, ClosedDuring, After::Reconnect),
        ] {
            let results = usize::from(answer == '.');
            let found = play(&[('w', &[1], results, answer)]);
            assert_eq!(found, Ok((least, most, verdict, after)), "{answer}");
        }
    }

    #[test]
    fn transactions() {
        use Verdict::{ClosedBefore, ClosedDuring, NotExecuted, Ok as Fine, RolledBack, Unknown};
        let end = |letter, mark: &'static [usize], answer| {
            let results = usize::from(answer == '.');
            play(&[('s', &[0], 1, '.'), ('w', &[0], 1, '.'), (letter, mark, results, answer)])
                .map(|(least, most, verdict, _)| (least, most, verdict))
        };
        assert_eq!(end('c', &[1], '.'), Ok((1, 1, Fine)));
        assert_eq!(end('c', &[1], 'a'), Ok((0, 0, RolledBack)));
        assert_eq!(end('c', &[1], 'u'), Ok((0, 1, Unknown)));
        assert_eq!(end('c', &[1], 's'), Ok((0, 0, NotExecuted)));
        assert_eq!(end('c', &[1], 'x'), Ok((0, 1, ClosedDuring)));
        assert_eq!(end('b', &[0], '.'), Ok((0, 0, RolledBack)));
        assert_eq!(end('b', &[0], 'x'), Ok((0, 0, ClosedBefore)));
        assert_eq!(end('w', &[0], 'a'), Ok((0, 0, RolledBack)));
        assert_eq!(end('w', &[0], 'x'), Ok((0, 0, ClosedBefore)));
        assert!(end('b', &[0], 'a').is_err(), "ROLLBACK is never refused");
    }

    #[test]
    fn packets_and_procedures() {
        use Verdict::{Failed, Unknown};
        let packet = |results, answer| {
            play(&[('w', &[1, 1, 1], results, answer)])
                .map(|(least, most, verdict, _)| (least, most, verdict))
        };
        assert_eq!(packet(3, '.'), Ok((3, 3, Verdict::Ok)));
        assert_eq!(packet(0, 'n'), Ok((0, 0, Verdict::NotExecuted)));
        assert_eq!(packet(1, 'u'), Ok((1, 3, Unknown)));
        assert_eq!(packet(1, 'k'), Ok((1, 2, Failed)), "the second may have been done");
        assert!(packet(2, '.').is_err(), "a result is missing");
        let mut trial = Trial::default();
        let killed = error(1927, "70100", "Connection was killed");
        let refused = error(1290, "HY000", "the --read-only option");
        for stopped in [killed, refused] {
            let mut trial = Trial::default();
            trial.hear(&asked(Role::Write, &[2]), 0, &stopped).unwrap();
            assert_eq!(trial.conclude(2), (Told { least: 0, most: 2 }, Failed), "{stopped:?}");
        }
        let ours = error(1290, "HY000", "(failsoft: read-only)");
        trial.hear(&asked(Role::Write, &[2]), 0, &ours).unwrap();
        assert_eq!(trial.conclude(2), (Told { least: 0, most: 0 }, Verdict::NotExecuted));
    }

    #[test]
    fn what_is_not_promised_is_caught() {
        assert!(play(&[('w', &[1], 0, '?')]).is_err(), "1064");
        assert!(play(&[('r', &[0], 0, 'n')]).is_err(), "a read is not refused");
        assert!(play(&[('s', &[0], 0, 'n')]).is_err(), "nor is BEGIN");
        assert!(play(&[('r', &[0], 0, 'u')]).is_err(), "a read is not a write");
        assert!(play(&[('w', &[1], 0, 'a')]).is_err(), "no transaction is open");
        assert!(play(&[('w', &[1], 0, 'i')]).is_err(), "a write is not interrupted");
        let late = Trial::default().hear(&asked(Role::Read, &[0]), 0, &Outcome::Late);
        assert!(late.is_err());
    }

    #[test]
    fn commit_must_fail_after_a_lost_transaction() {
        let found = play(&[('w', &[0], 0, 'a'), ('c', &[1], 0, '.')]).unwrap();
        assert_eq!(found.3, After::RollBack { told: true });
    }
}
