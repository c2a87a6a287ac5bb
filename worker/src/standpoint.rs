//! Where this machine asks from: what is open to a neighbour need not be open to strangers.

use std::{collections::BTreeSet, net::IpAddr, sync::Mutex};

/// The addresses of ours from which targets were asked from inside.
#[derive(Debug, Default)]
pub struct Standpoints(Mutex<BTreeSet<IpAddr>>);

impl Standpoints {
    /// Says, once for each address, that targets are asked from inside: see
    /// [`ajar_model::Evidence::is_from_inside`].
    pub fn note_inside(&self, ours: IpAddr) {
        if self.0.lock().expect("no holder panics").insert(ours) {
            tracing::warn!(
                %ours,
                "targets are asked from inside: what is open to this machine need not be open to strangers, and owners are not \
                 told of it; ask from a machine outside, name the address that targets see if it is behind NAT (--public-address), or take it \
                 for open by --inside-counts"
            );
        }
    }
}
