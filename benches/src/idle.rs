//! What a session costs that does nothing: memory of the proxy for each client that is logged in.

use crate::client::Client;
use crate::peers::Peer;
use crate::procstat::resident;

/// Clients that are there before those that are counted, so that what is made once is there.
const WARM: u64 = 100;

/// KiB of the peer's memory for each of so many clients; none without a proxy.
pub(crate) async fn measure(peer: &Peer, clients: u64) -> anyhow::Result<Option<f64>> {
    let Some(pid) = peer.pid() else { return Ok(None) };
    let mut held = Vec::new();
    let mut before = 0;
    for seed in 0..WARM + clients {
        if seed == WARM {
            before = resident(pid)?;
        }
        held.push(Client::connect(peer.port(), seed).await?);
    }
    let grown = resident(pid)?.saturating_sub(before);
    Ok(Some(f64::from(u32::try_from(grown)?) / f64::from(u32::try_from(clients)?)))
}
