// Package mastodon knows Mastodon as an operator does: where its files lie, how
// its processes announce themselves in Redis, what its database lacks, which
// requests prove that a node serves a release, and the command lines of its tools.
//
// The verbs (Verbs) run on a node of the fleet, read the node's own
// .env.production and connect from there; the functions on *node.Agent call them
// from anywhere. Rules they hold:
//
//   - a secret never leaves the host: results carry no values of the environment
//     file, and passwords, tokens and connection strings are cut out of errors;
//   - what judges (CheckRolled, CheckUnit, Findings of every kind) is pure and takes
//     values, what reads is a verb;
//   - Mastodon's own tools are never run by a verb: they are recipes (node.JobIn)
//     for a transient unit, since they may take long and must outlive a link.
package mastodon
