//! What comes from outside: another configuration, and the orders of operators.
//!
//! An order only ever takes away: it makes a partition read-only or takes a server out. Its opposite
//! undoes it, and nothing that the configuration says. So the two never contradict each other, and
//! an order is as good after the file was read again as before.

use std::time::{Duration, SystemTime};

use super::{Cluster, PartitionState, ServerState};
use crate::topology::{ServerId, ServerSpec, Topology};

/// What operators ask of a partition.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Asked {
    /// It is to be read-only.
    pub(super) read_only: bool,
    /// Its writes are to wait, for so long.
    pub(super) hold: Option<Duration>,
}

impl Cluster {
    /// Where a server is in the topology; none when the configuration no longer has it.
    #[must_use]
    pub fn position(&self, id: ServerId) -> Option<usize> {
        self.servers.iter().position(|state| state.id == id)
    }

    /// What the configuration says.
    #[must_use]
    pub fn topology(&self) -> &Topology {
        &self.topology
    }

    /// Whether operators switched a partition to read-only mode.
    #[must_use]
    pub fn is_asked_read_only(&self, partition: usize) -> bool {
        self.partitions.get(partition).is_some_and(|state| state.asked.read_only)
    }

    /// How long a write of a partition may wait by an operator's order.
    #[must_use]
    pub fn hold(&self, partition: usize) -> Option<Duration> {
        self.partitions.get(partition)?.asked.hold
    }

    /// Takes note of what is asked of a partition, or of all, those to come included.
    pub(super) fn ask(&mut self, partition: Option<usize>, change: impl Fn(&mut Asked)) {
        match partition {
            Some(partition) => {
                // What was said of all is from now on said of each.
                self.asked = Asked::default();
                self.partitions.get_mut(partition).iter_mut().for_each(|it| change(&mut it.asked));
            }
            None => {
                change(&mut self.asked);
                self.partitions.iter_mut().for_each(|state| change(&mut state.asked));
            }
        }
    }

    pub(super) fn set_enabled(&mut self, server: usize, enabled: bool) {
        let (Some(state), Some(spec)) =
            (self.servers.get_mut(server), self.topology.servers.get(server))
        else {
            return;
        };
        state.held_out = !enabled;
        state.set_enabled(spec.enabled && enabled);
    }

    /// Goes over to another configuration. What is known of a server goes with its name; the epoch
    /// of a partition goes with its master, and the rest with its name.
    pub(super) fn take_over(&mut self, topology: Topology, now: SystemTime) {
        let names: Vec<_> = self.topology.servers.iter().map(|spec| spec.name.clone()).collect();
        let mut known: Vec<_> = names.into_iter().zip(std::mem::take(&mut self.servers)).collect();
        for spec in &topology.servers {
            let at = known.iter().position(|(name, _)| *name == spec.name);
            let state = at.map(|at| known.swap_remove(at).1);
            let state = self.inherit(spec, state);
            self.servers.push(state);
        }
        let names = std::mem::take(&mut self.topology.partitions);
        let known: Vec<_> = names.into_iter().zip(std::mem::take(&mut self.partitions)).collect();
        self.topology = topology;
        let asked = self.asked;
        self.partitions = (0..self.topology.partitions.len())
            .map(|partition| {
                let name = self.topology.partitions.get(partition);
                let by_name = known.iter().find(|(known, _)| Some(known) == name);
                let mastery = self.mastery(self.master(partition));
                let is_masters =
                    |state: &PartitionState| mastery.server.is_some() && state.mastery == mastery;
                let by_master = known.iter().find(|(_, state)| is_masters(state));
                let mut state = by_name
                    .or(by_master)
                    .map_or_else(|| PartitionState::new(asked, now), |(_, state)| state.clone());
                let of_master = by_master.map(|(_, state)| (state.mastery.clone(), state.epoch));
                (state.mastery, state.epoch) = of_master.unwrap_or_default();
                state
            })
            .collect();
    }

    fn inherit(&mut self, spec: &ServerSpec, known: Option<ServerState>) -> ServerState {
        let mut state = known.unwrap_or_else(|| {
            let id = ServerId(self.next_server);
            self.next_server += 1;
            ServerState::new(id)
        });
        state.set_enabled(spec.enabled && !state.held_out);
        state
    }
}
