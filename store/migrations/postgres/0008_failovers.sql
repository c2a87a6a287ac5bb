-- The server that wrote last, by its identifier and timeline: another one may lack what was granted before it took over.
CREATE TABLE ajar.server (
    one        boolean PRIMARY KEY DEFAULT true CHECK (one),
    name       text NOT NULL,
    -- It took over, and nobody has granted anything since.
    changed    boolean NOT NULL DEFAULT false,
    -- When the leases of the server before are over.
    settles_at timestamptz
);
