//! What the two ends of a connection agree on (P: group__group__cs__capabilities__flags;
//! <https://mariadb.com/kb/en/connection/>).
//!
//! What shapes a reply is agreed on with each side for itself, and alike wherever that is possible:
//! clients are offered what all servers offer, and a server is asked for what the client chose, and
//! for session tracking in any case. Then replies are relayed as they are, or
//! [without what changed](crate::quiet). A server that lacks what was agreed on with the client, because
//! nobody had seen it then, is made up for by a [`Bridge`](crate::bridge::Bridge) where that can be
//! done ([`Capabilities::SPARED`]).

/// A set of capability flags. The lower half are the flags that MySQL and MariaDB share, the upper
/// half MariaDB's extended ones.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
pub struct Capabilities(u64);

macro_rules! flags {
    ($($(#[$doc:meta])* $name:ident = $bit:literal;)*) => {
        $($(#[$doc])* pub const $name: Self = Self(1 << $bit);)*

        /// Every flag known here, with its name.
        pub const ALL: &[(Self, &str)] = &[$((Self::$name, stringify!($name))),*];
    };
}

impl Capabilities {
    flags! {
        /// MySQL; a server that does not set it is MariaDB and has extended flags.
        MYSQL = 0;
        /// Affected rows count the rows that matched.
        FOUND_ROWS = 1;
        /// Longer flags in column definitions.
        LONG_FLAG = 2;
        /// The login names a schema.
        CONNECT_WITH_DB = 3;
        /// `schema.table.column` is not allowed.
        NO_SCHEMA = 4;
        /// zlib compression.
        COMPRESS = 5;
        /// ODBC behaviour.
        ODBC = 6;
        /// LOAD DATA LOCAL.
        LOCAL_FILES = 7;
        /// Spaces before `(`.
        IGNORE_SPACE = 8;
        /// The protocol since 4.1.
        PROTOCOL_41 = 9;
        /// `interactive_timeout` in place of `wait_timeout`.
        INTERACTIVE = 10;
        /// TLS.
        SSL = 11;
        /// Nothing any more.
        IGNORE_SIGPIPE = 12;
        /// Status flags in OK packets.
        TRANSACTIONS = 13;
        /// Authentication since 4.1.
        SECURE_CONNECTION = 15;
        /// Several statements in a packet.
        MULTI_STATEMENTS = 16;
        /// Several results of a statement.
        MULTI_RESULTS = 17;
        /// Several results of a prepared statement.
        PS_MULTI_RESULTS = 18;
        /// Authentication plugins by name.
        PLUGIN_AUTH = 19;
        /// Connection attributes.
        CONNECT_ATTRS = 20;
        /// The authentication answer may be longer than 255 bytes.
        PLUGIN_AUTH_LENENC = 21;
        /// An expired password lets in.
        CAN_HANDLE_EXPIRED_PASSWORDS = 22;
        /// State changes in OK packets.
        SESSION_TRACK = 23;
        /// OK in place of EOF.
        DEPRECATE_EOF = 24;
        /// MySQL: column definitions are left out where the client asked for that with
        /// `resultset_metadata`; a byte behind the column count tells
        /// (P: page_protocol_com_query_response_text_resultset).
        OPTIONAL_RESULTSET_METADATA = 25;
        /// zstd compression.
        ZSTD_COMPRESSION = 26;
        /// Attributes of statements.
        QUERY_ATTRIBUTES = 27;
        /// MariaDB: progress reports.
        MARIADB_PROGRESS = 32;
        /// MariaDB: bulk execution of prepared statements.
        MARIADB_STMT_BULK = 34;
        /// MariaDB: extended column definitions.
        MARIADB_EXTENDED_METADATA = 35;
        /// MariaDB: column definitions that are those which the client was given last for a prepared
        /// statement are left out; a byte behind the column count tells
        /// (<https://mariadb.com/kb/en/mariadb-protocol-differences-with-mysql/>).
        MARIADB_CACHE_METADATA = 36;
    }

    /// No flag.
    pub const NONE: Self = Self(0);

    /// The flags that shape what goes over the connection after the login, or how a server behaves
    /// for it: a server connection is opened with the client's choice of them, and
    /// [`SESSION_TRACK`](Self::SESSION_TRACK).
    pub const CARRIED: Self = Self(
        Self::FOUND_ROWS.0
            | Self::LONG_FLAG.0
            | Self::NO_SCHEMA.0
            | Self::ODBC.0
            | Self::LOCAL_FILES.0
            | Self::IGNORE_SPACE.0
            | Self::INTERACTIVE.0
            | Self::IGNORE_SIGPIPE.0
            | Self::TRANSACTIONS.0
            | Self::MULTI_STATEMENTS.0
            | Self::MULTI_RESULTS.0
            | Self::PS_MULTI_RESULTS.0
            | Self::CAN_HANDLE_EXPIRED_PASSWORDS.0
            | Self::SESSION_TRACK.0
            | Self::DEPRECATE_EOF.0
            | Self::OPTIONAL_RESULTSET_METADATA.0
            | Self::QUERY_ATTRIBUTES.0
            | Self::MARIADB_PROGRESS.0
            | Self::MARIADB_STMT_BULK.0
            | Self::MARIADB_EXTENDED_METADATA.0
            | Self::MARIADB_CACHE_METADATA.0,
    );

    /// The flags with which a byte behind the column count says whether definitions follow.
    pub const METADATA_BYTE: Self =
        Self(Self::OPTIONAL_RESULTSET_METADATA.0 | Self::MARIADB_CACHE_METADATA.0);

    /// The flags that change replies, and whose lack a [`Bridge`](crate::bridge::Bridge) makes up
    /// for.
    pub const BRIDGED: Self = Self(Self::DEPRECATE_EOF.0 | Self::METADATA_BYTE.0);

    /// The flags of the login itself, which failsoft speaks on either side for itself.
    pub const LOGIN: Self = Self(
        Self::CONNECT_WITH_DB.0
            | Self::PROTOCOL_41.0
            | Self::SECURE_CONNECTION.0
            | Self::PLUGIN_AUTH.0
            | Self::CONNECT_ATTRS.0
            | Self::PLUGIN_AUTH_LENENC.0,
    );

    /// The ways to compress, which failsoft offers clients whatever the servers do.
    pub const COMPRESSION: Self = Self(Self::COMPRESS.0 | Self::ZSTD_COMPRESSION.0);

    /// The carried flags that a server may lack although they were agreed on with the client: they
    /// only allow a server something, or what it does instead can be made what the client expects.
    pub const SPARED: Self = Self(
        Self::BRIDGED.0
            | Self::SESSION_TRACK.0
            | Self::CAN_HANDLE_EXPIRED_PASSWORDS.0
            | Self::MARIADB_PROGRESS.0,
    );

    /// The carried flags that every server since MySQL 5.5 and MariaDB 5.5 offers.
    pub const BASE: Self = Self(
        Self::CARRIED.0
            & !(Self::SESSION_TRACK.0
                | Self::DEPRECATE_EOF.0
                | Self::OPTIONAL_RESULTSET_METADATA.0
                | Self::QUERY_ATTRIBUTES.0
                | Self::CAN_HANDLE_EXPIRED_PASSWORDS.0
                | Self::MARIADB_PROGRESS.0
                | Self::MARIADB_STMT_BULK.0
                | Self::MARIADB_EXTENDED_METADATA.0
                | Self::MARIADB_CACHE_METADATA.0),
    );

    /// From the 32 flags of the protocol and MariaDB's 32 extended ones.
    #[must_use]
    pub fn new(flags: u32, extended: u32) -> Self {
        Self(u64::from(flags) | u64::from(extended) << 32)
    }

    /// The 32 flags that MySQL and MariaDB share.
    #[must_use]
    pub fn flags(self) -> u32 {
        u32::try_from(self.0 & 0xffff_ffff).unwrap_or_default()
    }

    /// MariaDB's extended flags.
    #[must_use]
    pub fn extended(self) -> u32 {
        u32::try_from(self.0 >> 32).unwrap_or_default()
    }

    /// Whether all of `other` are set.
    #[must_use]
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Whether any of `other` is set.
    #[must_use]
    pub const fn intersects(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    /// The flags of both.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// The flags of either.
    #[must_use]
    pub const fn or(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// These flags without the others'.
    #[must_use]
    pub const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// The names of the set flags that are known here.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        Self::ALL.iter().filter(move |(flag, _)| self.contains(*flag)).map(|(_, name)| *name)
    }

    /// What a server of this `version` offers of [`CARRIED`](Self::CARRIED), by its version text:
    /// `8.0.36`, `10.11.6-MariaDB-log`, `5.5.5-10.11.6-MariaDB`.
    ///
    /// DEPRECATE_EOF and session tracking came with MySQL 5.7.5 and MariaDB 10.2, optional metadata
    /// with MySQL 8.0.3, query attributes with 8.0.25, MariaDB's bulk execution with 10.2, its
    /// extended metadata with 10.5.2, and definitions that are not sent twice with 10.6.
    #[must_use]
    pub fn of_version(version: &str) -> Self {
        let mariadb = version.contains("MariaDB");
        let version = if mariadb { version.trim_start_matches("5.5.5-") } else { version };
        let mut numbers = version.split(|c: char| !c.is_ascii_digit()).map(|n| n.parse::<u32>());
        let mut number = || numbers.next().and_then(Result::ok).unwrap_or(0);
        let version = (number(), number(), number());
        let modern = Self::SESSION_TRACK.or(Self::DEPRECATE_EOF);
        let since: &[((u32, u32, u32), Self)] = if mariadb {
            &[
                ((5, 3, 0), Self::MARIADB_PROGRESS),
                ((10, 2, 4), modern.or(Self::MARIADB_STMT_BULK)),
                ((10, 4, 3), Self::CAN_HANDLE_EXPIRED_PASSWORDS),
                ((10, 5, 2), Self::MARIADB_EXTENDED_METADATA),
                ((10, 6, 0), Self::MARIADB_CACHE_METADATA),
            ]
        } else {
            &[
                ((5, 7, 5), modern.or(Self::CAN_HANDLE_EXPIRED_PASSWORDS)),
                ((8, 0, 3), Self::OPTIONAL_RESULTSET_METADATA),
                ((8, 0, 25), Self::QUERY_ATTRIBUTES),
            ]
        };
        since
            .iter()
            .filter(|(from, _)| version >= *from)
            .fold(Self::BASE, |all, (_, flags)| all.or(*flags))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_tell_what_servers_offer() {
        use Capabilities as C;
        // version, has DEPRECATE_EOF, QUERY_ATTRIBUTES, STMT_BULK, optional and cached metadata
        let table = [
            ("9.7.0", "eq-o-"),
            ("8.4.2", "eq-o-"),
            ("8.0.11", "e--o-"),
            ("5.7.44-log", "e----"),
            ("5.6.51", "-----"),
            ("10.11.6-MariaDB-log", "e-b-c"),
            ("5.5.5-10.11.6-MariaDB-1:10.11.6+maria~deb12", "e-b-c"),
            ("10.5.29-MariaDB", "e-b--"),
            ("10.1.48-MariaDB", "-----"),
            ("", "-----"),
        ];
        for (version, expected) in table {
            let offered = C::of_version(version);
            let flags = [
                (C::DEPRECATE_EOF, 'e'),
                (C::QUERY_ATTRIBUTES, 'q'),
                (C::MARIADB_STMT_BULK, 'b'),
                (C::OPTIONAL_RESULTSET_METADATA, 'o'),
                (C::MARIADB_CACHE_METADATA, 'c'),
            ];
            let seen: String =
                flags.iter().map(|(f, c)| if offered.contains(*f) { *c } else { '-' }).collect();
            assert_eq!(seen, expected, "{version}");
        }
    }

    #[test]
    fn both_halves_come_back() {
        let both = Capabilities::new(0x8123_4567, 0x89ab_cdef);
        assert_eq!((both.flags(), both.extended()), (0x8123_4567, 0x89ab_cdef));
    }
}
