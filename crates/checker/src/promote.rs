//! A change of roles in which nothing that was acknowledged is lost.
//!
//! The old master stops taking writes, the replica gets all that the old one has, and only then
//! becomes the master; the old one follows it. failsoft is told last.

use testkit::Flavor;
use tokio::time::{Instant, sleep};

use crate::stand::{LOOK, PATIENCE, Stand};

/// Swaps the roles of the two servers and tells failsoft.
///
/// # Errors
/// A server does not do what it is told.
pub(crate) async fn swap(stand: &mut Stand) -> Result<(), String> {
    let (old, new) = (stand.master, stand.replica());
    let flavor = stand.servers[old].flavor();
    stand.order(old, &[freeze(flavor)]).await?;
    let caught_up = stand.servers[new].wait_for(&stand.servers[old]).await;
    caught_up.map_err(|error| error.to_string())?;
    // From here on no read tells which server the master is.
    stand.field.set_master(0);
    stand.order(new, release(flavor)).await?;
    if flavor == Flavor::MariaDb {
        // What it has executed as master is where it follows from.
        stand.order(old, &["SET GLOBAL gtid_slave_pos = @@global.gtid_current_pos"]).await?;
    }
    let followed = stand.servers[old].follow(&stand.servers[new]).await;
    followed.map_err(|error| error.to_string())?;
    stand.servers[old].start_read_only(true);
    stand.servers[new].start_read_only(false);
    stand.master = new;
    stand.write_config();
    tell(stand).await?;
    stand.wait_well().await?;
    stand.field.set_master(if new == 0 { 1 } else { 2 });
    Ok(())
}

/// Makes failsoft read its file, while sessions go on.
async fn tell(stand: &mut Stand) -> Result<(), String> {
    let done = |log: String| log.matches("the configuration was ").count();
    let before = done(stand.failsoft.log());
    stand.failsoft.reload();
    let deadline = Instant::now() + PATIENCE;
    while done(stand.failsoft.log()) == before {
        if Instant::now() >= deadline {
            return Err("failsoft does not read its configuration again".to_owned());
        }
        sleep(LOOK).await;
    }
    Ok(())
}

const fn freeze(flavor: Flavor) -> &'static str {
    match flavor {
        Flavor::MariaDb => "SET GLOBAL read_only = 1",
        Flavor::MySql => "SET GLOBAL super_read_only = 1",
    }
}

const fn release(flavor: Flavor) -> &'static [&'static str] {
    match flavor {
        Flavor::MariaDb => &["STOP SLAVE", "RESET SLAVE ALL", "SET GLOBAL read_only = 0"],
        Flavor::MySql => &["STOP REPLICA", "RESET REPLICA ALL", "SET GLOBAL read_only = 0"],
    }
}
