-- Nothing is ever deleted, and a batch is stored in one transaction that holds its rows: nothing needs to be looked up once more
-- for each of them, nor the campaign be locked for every finding.
ALTER TABLE ajar.observations DROP CONSTRAINT observations_finding_fkey;
ALTER TABLE ajar.findings DROP CONSTRAINT findings_campaign_fkey;
