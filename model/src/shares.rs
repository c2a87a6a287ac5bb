//! Who may have how much of a rate that many campaigns share.
//!
//! Tenants get equal parts, or parts by their weights, and the campaigns of a tenant share its part
//! equally. Nobody gets more than it can use, and what one cannot use is the others': max-min
//! fairness, found by raising all shares together and leaving each where it meets a limit.

use std::collections::{BTreeMap, BTreeSet};

/// What one campaign may claim.
#[derive(Debug, Clone, Copy)]
pub struct Claim<'a> {
    pub tenant: &'a str,
    /// Its own rate: it gets no more.
    pub rate: u32,
    /// What it can use at the moment. It gets more only after everybody has what they can use.
    pub demand: u32,
    /// The authorization that it runs under, and the rate of that over all its campaigns.
    pub authorization: Option<(&'a str, u32)>,
}

/// What a tenant's part is worth, where it is not worth 1.
pub type Weights = BTreeMap<String, u32>;

/// Divides the site's rate, if it has a limit, among campaigns. Shares are in the order of the
/// claims. They add up to no more than the site and each authorization have, except that nobody gets
/// less than 1.
pub fn shares(site: Option<u32>, weights: &Weights, claims: &[Claim<'_>]) -> Vec<u32> {
    let mut rising = Rising {
        weights,
        claims,
        limits: limits(site, claims),
        levels: vec![0.0; claims.len()],
    };
    rising.rise_to(|claim| claim.demand.min(claim.rate));
    rising.rise_to(|claim| claim.rate);
    let whole = |level: f64| (level + ROUNDING) as u32;
    let levels = rising.levels.into_iter();
    levels.map(|level| whole(level).max(1)).collect()
}

/// Sums of fractions may be a little less than they should be.
const ROUNDING: f64 = 1e-6;

/// What some claims may have together.
struct Limit {
    members: Vec<usize>,
    rate: f64,
}

fn limits(site: Option<u32>, claims: &[Claim<'_>]) -> Vec<Limit> {
    let mut authorizations: BTreeMap<&str, Limit> = BTreeMap::new();
    for (at, claim) in claims.iter().enumerate() {
        if let Some((id, rate)) = claim.authorization {
            let limit = authorizations.entry(id).or_insert(Limit {
                members: Vec::new(),
                rate: rate.into(),
            });
            limit.members.push(at);
        }
    }
    let site = site.map(|rate| Limit {
        members: (0..claims.len()).collect(),
        rate: rate.into(),
    });
    authorizations.into_values().chain(site).collect()
}

struct Rising<'a> {
    weights: &'a Weights,
    claims: &'a [Claim<'a>],
    limits: Vec<Limit>,
    /// The shares so far.
    levels: Vec<f64>,
}

impl Rising<'_> {
    /// Raises the shares until each meets this bound or a limit.
    fn rise_to(&mut self, bound: impl Fn(&Claim<'_>) -> u32) {
        let bounds: Vec<f64> = self
            .claims
            .iter()
            .map(|claim| bound(claim).into())
            .collect();
        let mut rising: BTreeSet<usize> = (0..self.claims.len()).collect();
        self.leave_those_at(&bounds, &mut rising);
        // Each step takes at least one to its bound or to a limit.
        for _ in 0..self.claims.len() + self.limits.len() {
            if rising.is_empty() {
                return;
            }
            let speeds = self.speeds(&rising);
            let to_bounds = rising
                .iter()
                .map(|&at| (bounds[at] - self.levels[at]) / speeds[at]);
            let to_limits = self.limits.iter().filter_map(|limit| {
                let speed: f64 = limit.members.iter().map(|&at| speeds[at]).sum();
                (speed > 0.0).then(|| (limit.rate - self.used(limit)) / speed)
            });
            let step = to_bounds.chain(to_limits).fold(f64::INFINITY, f64::min);
            for &at in &rising {
                self.levels[at] += speeds[at] * step;
            }
            self.leave_those_at(&bounds, &mut rising);
        }
    }

    /// How fast each rises: its tenant's weight, divided among those of the tenant that rise.
    fn speeds(&self, rising: &BTreeSet<usize>) -> Vec<f64> {
        let mut siblings: BTreeMap<&str, u32> = BTreeMap::new();
        for &at in rising {
            *siblings.entry(self.claims[at].tenant).or_default() += 1;
        }
        let mut speeds = vec![0.0; self.claims.len()];
        for &at in rising {
            let tenant = self.claims[at].tenant;
            let weight = self.weights.get(tenant).copied().unwrap_or(1).max(1);
            speeds[at] = f64::from(weight) / f64::from(siblings[tenant]);
        }
        speeds
    }

    fn used(&self, limit: &Limit) -> f64 {
        limit.members.iter().map(|&at| self.levels[at]).sum()
    }

    /// Takes out those that have met their bound or a limit.
    fn leave_those_at(&self, bounds: &[f64], rising: &mut BTreeSet<usize>) {
        rising.retain(|&at| self.levels[at] + ROUNDING < bounds[at]);
        for limit in &self.limits {
            if self.used(limit) + ROUNDING >= limit.rate {
                for at in &limit.members {
                    rising.remove(at);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claim(tenant: &str, rate: u32, demand: u32) -> Claim<'_> {
        Claim {
            tenant,
            rate,
            demand,
            authorization: None,
        }
    }

    #[test]
    fn tenants_share_equally_whatever_their_campaigns() {
        let claims = [
            claim("a", 900, 900),
            claim("b", 900, 900),
            claim("b", 900, 900),
            claim("b", 900, 900),
        ];
        let none = Weights::new();
        assert_eq!(shares(Some(600), &none, &claims), [300, 100, 100, 100]);
        assert_eq!(shares(None, &none, &claims), [900; 4]);
        let weights = Weights::from([("a".to_owned(), 3)]);
        assert_eq!(shares(Some(600), &weights, &claims), [450, 50, 50, 50]);
    }

    #[test]
    fn what_one_cannot_use_is_the_others() {
        let none = Weights::new();
        let claims = [
            claim("a", 40, 40),
            claim("b", 900, 900),
            claim("c", 900, 900),
        ];
        assert_eq!(shares(Some(600), &none, &claims), [40, 280, 280]);
        // A tenant's part goes to its own campaigns first.
        let claims = [
            claim("a", 50, 50),
            claim("a", 900, 900),
            claim("b", 900, 900),
        ];
        assert_eq!(shares(Some(600), &none, &claims), [50, 250, 300]);
        // What nobody can use now goes to whoever may have it.
        let claims = [claim("a", 900, 10), claim("b", 900, 100)];
        assert_eq!(shares(Some(600), &none, &claims), [255, 345]);
        assert_eq!(shares(Some(600), &none, &claims[..1]), [600]);
    }

    #[test]
    fn an_authorization_is_a_limit_of_its_campaigns() {
        let none = Weights::new();
        let under = |id, rate, claim| Claim {
            authorization: Some((id, rate)),
            ..claim
        };
        let claims = [
            under("A", 100, claim("a", 900, 900)),
            under("A", 100, claim("a", 20, 20)),
            under("B", 900, claim("b", 900, 900)),
        ];
        assert_eq!(shares(Some(600), &none, &claims), [80, 20, 500]);
        assert_eq!(shares(None, &none, &claims), [80, 20, 900]);
    }

    #[test]
    fn everybody_gets_at_least_one() {
        let claims = [claim("a", 900, 900); 5];
        assert_eq!(shares(Some(3), &Weights::new(), &claims), [1; 5]);
        assert_eq!(shares(Some(0), &Weights::new(), &claims[..1]), [1]);
        assert_eq!(shares(None, &Weights::new(), &[]), [0; 0]);
    }

    proptest::proptest! {
        #[test]
        fn no_limit_is_passed_and_nothing_is_left_over(
            site in 100..5_000_u32,
            wanted in proptest::collection::vec((0..4_usize, 0..4_usize, 1..2_000_u32, 0..3_000_u32), 1..12),
            weight in 1..9_u32,
        ) {
            const NAMES: [&str; 4] = ["a", "b", "c", "d"];
            const RATES: [u32; 4] = [150, 700, 3_000, 9_000];
            let claims: Vec<Claim<'_>> = wanted.iter().map(|&(tenant, under, rate, demand)| Claim {
                authorization: Some((NAMES[under], RATES[under])),
                ..claim(NAMES[tenant], rate, demand)
            }).collect();
            let weights = Weights::from([("a".to_owned(), weight)]);
            let shares = shares(Some(site), &weights, &claims);
            // A share of less than one is rounded up, others down.
            let rounding = claims.len() as u32;
            let all: u32 = shares.iter().sum();
            proptest::prop_assert!(all <= site + rounding, "{shares:?}");
            let of = |under: usize| {
                let those = wanted.iter().zip(&shares).filter(move |(wanted, _)| wanted.1 == under);
                those.map(|(_, share)| *share).sum::<u32>()
            };
            for (under, rate) in RATES.into_iter().enumerate() {
                proptest::prop_assert!(of(under) <= rate + rounding, "{shares:?}");
            }
            // Whoever has less than its rate has met a limit.
            for (at, claim) in claims.iter().enumerate() {
                proptest::prop_assert!(shares[at] <= claim.rate.max(1));
                let under = wanted[at].1;
                let is_full = all + rounding >= site || of(under) + rounding >= RATES[under];
                proptest::prop_assert!(shares[at] == claim.rate || is_full, "{shares:?}");
            }
        }
    }
}
