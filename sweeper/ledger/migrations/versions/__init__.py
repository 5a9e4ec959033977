"""One file per version of the ledger's schema, numbered from 0001."""
