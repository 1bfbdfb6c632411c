//! The raw client against real servers.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "helpers of tests are not recognised as tests"
)]

use testkit::{APP, FaultProxy, Login, Options, RawClient, Server, capability, flavors};

#[tokio::test]
async fn logs_in_twice_and_reads_replies() {
    for flavor in flavors() {
        let server = Server::start(flavor, Options::default()).await.unwrap();
        // The first login of an account takes MySQL's full path, the second its fast one.
        for _ in 0..2 {
            let mut login = Login::new(APP.user, APP.pass);
            login.schema = Some("app".to_owned());
            let mut client = RawClient::logged_in(server.port(), &login).await;
            assert!(client.greeting.connection_id > 0);
            assert!(client.greeting.capabilities & capability::PLUGIN_AUTH != 0);

            let one = client.query("SELECT 'x', NULL").await.unwrap();
            let sequences: Vec<_> = one.iter().map(|frame| frame.sequence).collect();
            assert_eq!(sequences, [1, 2, 3, 4, 5, 6]);
            assert_eq!(one[4].payload, b"\x01x\xfb");

            let many = client.query("DO 1; SELECT 2; SELEC").await.unwrap();
            assert!(many.first().unwrap().is_ok());
            let (number, state, _) = many.last().unwrap().error().unwrap();
            assert_eq!((number, state.as_str()), (1064, "42000"));

            assert_eq!(client.query("DO 1").await.unwrap().len(), 1);
        }
    }
}

#[tokio::test]
async fn a_wrong_password_is_refused() {
    for flavor in flavors() {
        let server = Server::start(flavor, Options::default()).await.unwrap();
        let mut client = RawClient::connect(server.port()).await.unwrap();
        let answer = client.login(&Login::new(APP.user, "wrong")).await.unwrap();
        assert_eq!(answer.error().unwrap().0, 1045, "{flavor}");
    }
}

#[tokio::test]
async fn long_packets_are_split_and_counted() {
    for flavor in flavors() {
        let server = Server::start(flavor, Options::default()).await.unwrap();
        let proxy = FaultProxy::start(server.port()).await;
        let mut client = RawClient::logged_in(proxy.port(), &Login::new(APP.user, APP.pass)).await;
        // The command's byte and the statement around it fill one frame exactly, then one more.
        for length in [0xff_ffff - 17, 0xff_ffff - 16] {
            let statement = format!("SELECT LENGTH('{}')", "a".repeat(length));
            let reply = client.query(&statement).await.unwrap();
            let number = length.to_string();
            let row = reply.get(3).map(|frame| &frame.payload[1..]);
            assert_eq!(row, Some(number.as_bytes()), "{flavor}");
        }
    }
}
