// Package nginx takes a node out of every proxy's upstreams and puts it back.
//
// refit owns two small files on each proxy, one per upstream (Rails and
// streaming), which nginx includes inside its upstream blocks. A node is drained
// by the parameter "down" on its lines there and a reload. The rules:
//
//   - a file that this package does not understand to the last word is refused
//     with its name and line, never rewritten;
//   - nothing is reloaded that "nginx -t" does not accept; what stood in the files
//     before comes back when it does not;
//   - a reload counts only when workers of a new generation run;
//   - the last server of an upstream is never marked down.
//
// The verbs (Verbs) run on a proxy, the functions on *node.Agent anywhere.
package nginx
