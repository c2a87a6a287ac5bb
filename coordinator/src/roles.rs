//! What a caller's certificate lets them do.
//!
//! A certificate names its roles by URIs (subject alternative names) whose path is `/ajar/ROLE` or `/ajar/ROLE/NAME`, as a
//! SPIFFE id does: `spiffe://example.net/ajar/worker/paris-1`. With `/ajar/tenant/TENANT/ROLE` an operator or a viewer acts for that
//! tenant alone. Whether a call is allowed is decided by its path, before it is read, and a call that no line here names is refused.

/// What somebody is certified for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    /// Submits and steers campaigns and schedules, and reads everything.
    Operator,
    /// Reads campaigns, schedules, findings and the audit log.
    Viewer,
    /// Gets leases and nonce keys, and reports what it saw.
    Worker,
    /// Reports what arrived at it.
    Canary,
}

impl Role {
    /// The role that a URI names, if it names one, and the tenant that it is for.
    pub(crate) fn named_by(uri: &str) -> Option<(Self, Option<String>)> {
        let (_, path) = uri.split_once("://")?.1.split_once('/')?;
        let mut segments = path.strip_prefix("ajar/")?.split('/');
        let first = segments.next()?;
        let (tenant, role) = match first {
            "tenant" => (Some(segments.next()?), segments.next()?),
            role => (None, role),
        };
        let role = match role {
            "operator" => Role::Operator,
            "viewer" => Role::Viewer,
            // They serve every tenant.
            "worker" if tenant.is_none() => Role::Worker,
            "canary" if tenant.is_none() => Role::Canary,
            _ => return None,
        };
        let tenant = tenant.map(str::to_owned);
        (tenant.as_deref() != Some("")).then_some((role, tenant))
    }

    const ALL: [Self; 4] = [Role::Operator, Role::Viewer, Role::Worker, Role::Canary];

    /// True if it may call the method at this path.
    pub(crate) fn may(self, path: &str) -> bool {
        let call = path.trim_start_matches('/').split_once('/');
        match call.unwrap_or_default() {
            (
                "ajar.v1.WorkService",
                "Session" | "Lease" | "Renew" | "Release" | "Describe" | "Report",
            ) => self == Role::Worker,
            ("ajar.v1.CanaryService", "Register" | "Record") => self == Role::Canary,
            ("ajar.v1.FindingService", "List" | "Show")
            | ("ajar.v1.ScheduleService" | "ajar.v1.ExclusionService", "List")
            | ("ajar.v1.FleetService", "ListWorkers" | "ListCanaries")
            | ("ajar.v1.CampaignService", "Get" | "List" | "Watch" | "Audit" | "ListCanaries") => {
                matches!(self, Role::Operator | Role::Viewer)
            }
            (
                "ajar.v1.CampaignService",
                "Submit" | "Pause" | "Resume" | "Cancel" | "Remove" | "StopAll" | "StartAgain",
            )
            | ("ajar.v1.ScheduleService", "Put" | "Remove" | "Pause" | "Resume")
            | ("ajar.v1.ExclusionService", "Add" | "Remove") => self == Role::Operator,
            _ => false,
        }
    }
}

/// Returns the vantage point of the worker that a URI names: the segment after its role. Another
/// segment may follow, which tells workers of one vantage point apart. A worker without a name
/// stands at [`UNNAMED`].
pub(crate) fn vantage_of(uri: &str) -> &str {
    let path = uri
        .split_once("://")
        .and_then(|(_, rest)| rest.split_once('/'));
    let mut segments = path.map_or("", |(_, path)| path).split('/').skip(2);
    segments
        .next()
        .filter(|name| !name.is_empty())
        .unwrap_or(UNNAMED)
}

/// The vantage point of workers whose certificates name none.
const UNNAMED: &str = "unnamed";

/// True if the path is of a method that some role may call.
pub(crate) fn is_method(path: &str) -> bool {
    Role::ALL.iter().any(|role| role.may(path))
}

/// True for what cannot be told apart by tenants.
pub(crate) fn concerns_all(path: &str) -> bool {
    path == "/ajar.v1.CampaignService/Audit"
}

/// True for what says nothing of campaigns: how the server is, and which services it has.
pub(crate) fn is_for_everybody(path: &str) -> bool {
    [
        "/grpc.health.v1.Health/",
        "/grpc.reflection.v1.ServerReflection/",
    ]
    .iter()
    .any(|service| path.starts_with(service))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every method of the services, as their descriptions name them.
    fn methods() -> Vec<String> {
        let mut methods = Vec::new();
        for text in [
            include_str!("../../proto/ajar/v1/work.proto"),
            include_str!("../../proto/ajar/v1/campaign.proto"),
            include_str!("../../proto/ajar/v1/schedule.proto"),
            include_str!("../../proto/ajar/v1/exclusion.proto"),
            include_str!("../../proto/ajar/v1/fleet.proto"),
        ] {
            let mut service = "";
            for line in text.lines().map(str::trim) {
                if let Some(rest) = line.strip_prefix("service ") {
                    service = rest.trim_end_matches([' ', '{']);
                }
                if let Some((method, _)) = line.strip_prefix("rpc ").and_then(|r| r.split_once('('))
                {
                    methods.push(format!("/ajar.v1.{service}/{method}"));
                }
            }
        }
        methods
    }

    #[test]
    fn each_method_is_some_roles_and_those_that_change_something_are_one_roles() {
        let all = Role::ALL;
        let methods = methods();
        assert_eq!(methods.len(), 32, "{methods:?}");
        for method in methods {
            let may: Vec<Role> = all.into_iter().filter(|role| role.may(&method)).collect();
            let reads = [
                "Get",
                "List",
                "Watch",
                "Audit",
                "ListCanaries",
                "ListWorkers",
                "Show",
            ];
            let name = method.rsplit('/').next().unwrap();
            match reads.contains(&name) {
                true => assert_eq!(may, [Role::Operator, Role::Viewer], "{method}"),
                false => assert_eq!(may.len(), 1, "{method}: {may:?}"),
            }
            assert!(!is_for_everybody(&method), "{method}");
        }
        for unknown in [
            "/ajar.v1.New/Method",
            "/ajar.v1.WorkService/Method",
            "/",
            "",
        ] {
            assert!(!is_method(unknown), "{unknown}");
        }
        assert!(!Role::Viewer.may("/ajar.v1.CampaignService/Submit"));
    }

    #[test]
    fn a_vantage_point_is_the_third_segment_of_a_workers_path() {
        for (uri, vantage) in [
            ("spiffe://example.net/ajar/worker/paris", "paris"),
            ("spiffe://example.net/ajar/worker/paris/2", "paris"),
            ("spiffe://example.net/ajar/worker", UNNAMED),
            ("spiffe://example.net/ajar/worker/", UNNAMED),
        ] {
            assert_eq!(vantage_of(uri), vantage, "{uri}");
        }
    }

    #[test]
    fn a_role_is_the_second_segment_of_a_path_that_begins_with_ajar() {
        let check = |uri: &str, role: Option<Role>| {
            let expect = role.map(|role| (role, None));
            assert_eq!(Role::named_by(uri), expect, "{uri}");
        };
        check(
            "spiffe://example.net/ajar/worker/paris-1",
            Some(Role::Worker),
        );
        check("https://example.net/ajar/viewer", Some(Role::Viewer));
        check("spiffe://example.net/ns/ajar/operator", None);
        check("spiffe://example.net/ajar/coordinator/a", None);
        check("spiffe://example.net/ajar", None);
        check("ajar/operator", None);
        check("spiffe://ajar/operator", None);
        let of_tenant = |role: &str| Role::named_by(&format!("spiffe://a/ajar/tenant/acme/{role}"));
        let acme = || Some("acme".to_owned());
        assert_eq!(of_tenant("operator/ann"), Some((Role::Operator, acme())));
        assert_eq!(of_tenant("viewer"), Some((Role::Viewer, acme())));
        assert_eq!(of_tenant("worker/paris"), None);
        check("spiffe://a/ajar/tenant//operator", None);
        check("spiffe://a/ajar/tenant/operator", None);
    }
}
