//! Why a check failed, for people.

use std::time::Duration;

use mysql_async::{DriverError, Error, IoError};
use policy::observation::CheckFailure;

/// The server answered and did not accept the login: `ER_DBACCESS_DENIED_ERROR`,
/// `ER_ACCESS_DENIED_ERROR`, `ER_HOST_NOT_PRIVILEGED`, `ER_ACCESS_DENIED_NO_PASSWORD_ERROR`,
/// `ER_MUST_CHANGE_PASSWORD_LOGIN`, `ER_ACCOUNT_HAS_BEEN_LOCKED` of MySQL and of MariaDB.
const LOGIN: [u16; 7] = [1044, 1045, 1130, 1698, 1862, 3118, 4151];

/// Of an error.
pub(super) fn of(error: &Error) -> CheckFailure {
    let is_login = match error {
        Error::Server(error) => LOGIN.contains(&error.code),
        Error::Driver(error) => matches!(
            error,
            DriverError::UnknownAuthPlugin { .. } | DriverError::CleartextPluginDisabled
        ),
        _ => false,
    };
    CheckFailure { text: words(error), is_login }
}

/// Of a check that took longer than it may.
pub(super) fn timed_out(limit: Duration) -> CheckFailure {
    CheckFailure { text: format!("timed out after {} s", limit.as_secs_f64()), is_login: false }
}

fn words(error: &Error) -> String {
    match error {
        Error::Server(error) => format!("{} ({}): {}", error.code, error.state, error.message),
        Error::Io(IoError::Io(error)) => io(error),
        Error::Io(IoError::Tls(error)) => format!("TLS: {}", plain(&error.to_string())),
        Error::Driver(DriverError::ConnectionClosed) => {
            "the server closed the connection".to_owned()
        }
        Error::Driver(DriverError::NoClientSslFlagFromServer) => {
            "the server does not offer TLS, which the configuration requires".to_owned()
        }
        Error::Driver(DriverError::UnknownAuthPlugin { name }) => format!(
            "the account uses the authentication plugin {name}, which health checks do not know"
        ),
        Error::Driver(DriverError::CleartextPluginDisabled) => {
            "the server asks for the password in clear text, which health checks do not send"
                .to_owned()
        }
        Error::Driver(error) => plain(&error.to_string()),
        other => plain(&other.to_string()),
    }
}

fn io(error: &std::io::Error) -> String {
    if error.kind() == std::io::ErrorKind::UnexpectedEof {
        return "the server closed the connection".to_owned();
    }
    plain(&error.to_string())
}

/// Without the number of the operating system and the full stop.
fn plain(text: &str) -> String {
    let text = text.split_once(" (os error ").map_or(text, |(words, _)| words);
    text.trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use std::io;

    use mysql_async::ServerError;

    use super::*;

    #[test]
    fn failures_in_words() {
        let server = |code, state: &str, message: &str| {
            Error::Server(ServerError { code, state: state.into(), message: message.into() })
        };
        let os = |number| Error::from(io::Error::from_raw_os_error(number));
        let denied = "Access denied for user 'x'@'y' (using password: YES)";
        // error, words, whether it is the login
        #[rustfmt::skip]
        let table = [
            (os(111), "Connection refused", false),
            (os(113), "No route to host", false),
            (Error::from(io::Error::from(io::ErrorKind::UnexpectedEof)), "the server closed the connection", false),
            (server(1045, "28000", denied), "1045 (28000): Access denied for user 'x'@'y' (using password: YES)", true),
            (server(1040, "08004", "Too many connections"), "1040 (08004): Too many connections", false),
            (DriverError::ConnectionClosed.into(), "the server closed the connection", false),
            (DriverError::PacketOutOfOrder.into(), "Packet out of order", false),
        ];
        for (error, text, is_login) in table {
            assert_eq!(of(&error), CheckFailure { text: text.into(), is_login });
        }
    }

    #[test]
    fn limits_in_words() {
        assert_eq!(timed_out(Duration::from_secs(2)).text, "timed out after 2 s");
        assert_eq!(timed_out(Duration::from_millis(500)).text, "timed out after 0.5 s");
    }
}
