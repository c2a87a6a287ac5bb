-- Roles that read one tenant's rows, past the coordinator. Its own role owns the tables, and is not held to the policies.
CREATE TABLE ajar.readers (
    role   name PRIMARY KEY,
    tenant text NOT NULL
);

CREATE FUNCTION ajar.reads(of_tenant text) RETURNS boolean
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path = ajar, pg_temp AS $$
    SELECT EXISTS (SELECT FROM readers WHERE role = session_user AND tenant = of_tenant)
$$;

ALTER TABLE ajar.campaigns ENABLE ROW LEVEL SECURITY;
CREATE POLICY readers ON ajar.campaigns FOR SELECT USING (ajar.reads(tenant));
-- A campaign that a reader does not see is not among these.
ALTER TABLE ajar.findings ENABLE ROW LEVEL SECURITY;
CREATE POLICY readers ON ajar.findings FOR SELECT USING (campaign IN (SELECT id FROM ajar.campaigns));
ALTER TABLE ajar.observations ENABLE ROW LEVEL SECURITY;
CREATE POLICY readers ON ajar.observations FOR SELECT USING (campaign IN (SELECT id FROM ajar.campaigns));

-- Lets a role read a tenant's campaigns, findings and observations, and nothing else: no key of nonces, no mail, no audit log.
CREATE FUNCTION ajar.let_read(reader name, of_tenant text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO ajar.readers VALUES (reader, of_tenant)
        ON CONFLICT (role) DO UPDATE SET tenant = excluded.tenant;
    EXECUTE format('GRANT USAGE ON SCHEMA ajar TO %I', reader);
    EXECUTE format('GRANT SELECT (id, tenant, created_at, state, cause) ON ajar.campaigns TO %I', reader);
    EXECUTE format('GRANT SELECT (campaign, ip, port, probe, id, verdict, body) ON ajar.findings TO %I', reader);
    EXECUTE format('GRANT SELECT ON ajar.observations TO %I', reader);
END $$;
REVOKE EXECUTE ON FUNCTION ajar.let_read FROM PUBLIC;
