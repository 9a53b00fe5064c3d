"""Provenance: the caller's key id is written into the JSON body of a record that is created or changed."""
