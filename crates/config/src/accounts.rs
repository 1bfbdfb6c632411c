//! Users and their passwords, and where an account that is not complete gets the rest from.

use crate::model::{Account, Login};
use crate::reader::{Given, PASS, Reader, Section, one_of};
use crate::secret::Secret;
use crate::values;

/// The accounts of the file.
pub(crate) struct Accounts {
    /// Those of `users`; without a password where that was wrong.
    listed: Vec<(String, Option<Secret>)>,
    /// There may be more in `users` than was understood.
    is_partial: bool,
    /// That of `defaults`.
    pub(crate) defaults: Given<Account>,
}

impl Accounts {
    /// Reads `users` and the account in `defaults`.
    pub(crate) fn read(
        reader: &mut Reader<'_>,
        root: &Section<'_>,
        defaults: &Section<'_>,
        login: Option<Login>,
    ) -> Self {
        let sections = reader.sections(root, "users");
        let mut is_partial = matches!(sections, Given::Broken);
        let mut listed: Vec<(String, Option<Secret>)> = Vec::new();
        let mut places = Vec::new();
        for section in sections.value().unwrap_or_default() {
            let name = reader.required(&section, "name", values::text);
            let pass = reader.secret(&section, PASS);
            if pass.is_absent() {
                reader.missing(&section, "pass", &one_of(&PASS));
            }
            let Some(name) = name else {
                is_partial = true;
                continue;
            };
            if let Some(first) = listed.iter().position(|(other, _)| *other == name) {
                let first = places.get(first).map_or_else(String::new, ToString::to_string);
                let message = format!("found {name:?}, which is {first} already, expected it once");
                reader.reject(section.at("name"), message);
            }
            listed.push((name, pass.value()));
            places.push(section.place);
        }
        let mut accounts = Self { listed, is_partial, defaults: Given::Absent };
        accounts.defaults = accounts.account(reader, defaults, &Given::Absent);
        let needed = login == Some(Login::Listed);
        if needed && accounts.is_empty() && !matches!(accounts.defaults, Given::Broken) {
            reader.missing(root, "users", "an account to log in with, here or as defaults.user");
        }
        accounts
    }

    /// There is no account, nor anything that might have become one.
    pub(crate) fn is_empty(&self) -> bool {
        self.listed.is_empty() && !self.is_partial && self.defaults_account().is_none()
    }

    /// The account in `defaults`, if it is there and right.
    pub(crate) fn defaults_account(&self) -> Option<&Account> {
        match &self.defaults {
            Given::Value(account) => Some(account),
            Given::Absent | Given::Broken => None,
        }
    }

    /// Reads `user` and its password. A user without a password has that of `users`, or else that
    /// of `fallback`; a password without a user is for the user of `fallback`.
    pub(crate) fn account(
        &self,
        reader: &mut Reader<'_>,
        section: &Section<'_>,
        fallback: &Given<Account>,
    ) -> Given<Account> {
        let user = reader.read(section, "user", values::text);
        let pass = reader.secret(section, PASS);
        let name = match (user, fallback) {
            (Given::Absent, _) if pass.is_absent() => return Given::Absent,
            (Given::Value(name), _) => name,
            (Given::Absent, Given::Value(fallback)) => fallback.name.clone(),
            (Given::Broken, _) | (_, Given::Broken) => return Given::Broken,
            (Given::Absent, Given::Absent) => {
                reader.missing(section, "user", "a user to the password");
                return Given::Broken;
            }
        };
        let pass = match (pass, self.listed.iter().find(|(other, _)| *other == name), fallback) {
            (Given::Value(pass), ..) => pass,
            (Given::Absent, Some((_, Some(pass))), _) => pass.clone(),
            (Given::Absent, None, Given::Value(fallback)) => fallback.pass.clone(),
            (Given::Absent, None, Given::Absent) if !self.is_partial => {
                let expected = format!("{} for user {name:?}", one_of(&PASS));
                reader.missing(section, "pass", &expected);
                return Given::Broken;
            }
            _ => return Given::Broken,
        };
        Given::Value(Account { name, pass })
    }

    /// Everybody who may log in: `users`, and `defaults.user` if it is not one of them.
    pub(crate) fn into_users(self) -> Vec<Account> {
        let listed = self.listed.into_iter();
        let mut users: Vec<Account> =
            listed.filter_map(|(name, pass)| Some(Account { name, pass: pass? })).collect();
        if let Given::Value(account) = self.defaults
            && users.iter().all(|user| user.name != account.name)
        {
            users.push(account);
        }
        users
    }
}
