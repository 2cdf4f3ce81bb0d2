// Package keeper keeps, on one named host of the fleet, who may change the fleet
// (the lease), what was done (the journals) and what may be begun (the approvals).
//
// The lease has an epoch that rises with every holder and never falls. It says
// who may begin; what makes it safe is that every host compares epochs too (the
// fence): a holder that lost the lease without noticing, because it was frozen or
// cut off, is refused by the hosts and by the shelf.
//
// Times in the lease are by the keeper's clock. A lease that was not renewed for
// its whole life is expired, and shown as such; only after twice its life may
// somebody else acquire it, or at once after "unlock" (Take), or when its holder
// is proven dead: a process of the same machine that is no more.
//
// Files are written whole under another name, flushed, renamed, and the folder
// flushed. Each has a head with a format number and the hash of its content, so
// that a truncated or edited one is told from a good one.
package keeper

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strconv"
	"strings"
	"time"
)

// DefaultDir is where the keeper's files lie on its host.
const DefaultDir = "/var/lib/refit/keeper"

// DefaultTTL is how long a lease lives without renewal.
const DefaultTTL = time.Minute

// Errors that callers tell apart.
var (
	// ErrDamaged: a file is truncated or was edited. Retrying does not help: take
	// the journal from the operator's mirror, a lease with "unlock".
	ErrDamaged = errors.New("damaged")
	// ErrNewerFormat: a newer refit wrote the file. Use that one.
	ErrNewerFormat = errors.New("written by a newer refit")
	// ErrNoSpace: the disk is full. The file is as it was before.
	ErrNoSpace = errors.New("no space left on the keeper's disk")
	// ErrReadOnly: the file system is mounted read-only. The file is as it was.
	ErrReadOnly = errors.New("the keeper's disk is read-only")
	// ErrStale: the save's epoch is not the lease's, or its seq is not above the
	// stored one: somebody else holds the lease. The caller must stop.
	ErrStale = errors.New("stale")
)

// Holder tells who holds a lease.
type Holder struct {
	User string `json:"user"`
	// Host is the name of the operator's machine.
	Host string `json:"host"`
	PID  int    `json:"pid"`
	// Command is the words that the person typed: "upgrade --to v4.5.15".
	Command string `json:"command,omitempty"`
	// Machine tells one running machine, and its space of process IDs, from all
	// others; empty where that cannot be known.
	Machine string `json:"machine,omitempty"`
	// Started is the process's start by its machine's count, to tell a PID reused.
	Started string `json:"started,omitempty"`
	// Token tells one process's attempts from all others.
	Token string `json:"token"`
}

func (h Holder) String() string {
	return fmt.Sprintf("%s@%s (process %d)", h.User, h.Host, h.PID)
}

// Lease is what lease.json holds.
type Lease struct {
	// Epoch of the last holder; 0 if there never was one.
	Epoch int64 `json:"epoch"`
	// Held is false after the lease was given back or freed.
	Held   bool   `json:"held"`
	Holder Holder `json:"holder"`
	Run    string `json:"run,omitempty"`
	Why    string `json:"why,omitempty"`
	// Step at work when it was last renewed.
	Step     string    `json:"step,omitempty"`
	Acquired time.Time `json:"acquired,omitzero"`
	// Beat is when it was last renewed.
	Beat time.Time     `json:"beat,omitzero"`
	TTL  time.Duration `json:"ttl_ns,omitempty"`
	// Freed tells of the last "unlock".
	Freed *Freed `json:"freed,omitempty"`
	// Now is the keeper's clock when it answered; it is not stored.
	Now time.Time `json:"now,omitzero"`
}

// Freed tells who took the lease away from whom.
type Freed struct {
	By   Holder    `json:"by"`
	From Holder    `json:"from"`
	At   time.Time `json:"at"`
	// Epoch that was taken away.
	Epoch int64 `json:"epoch"`
}

// Age is the time since the last renewal, by the keeper's clock.
func (l Lease) Age() time.Duration { return l.Now.Sub(l.Beat) }

// Expired tells that the lease is held but was not renewed for its whole life.
func (l Lease) Expired() bool { return l.Held && l.Age() > l.TTL }

// over tells that the lease is anybody's: it was not renewed for twice its life.
func (l Lease) over() bool { return l.Age() > 2*l.TTL }

// heldBy tells whether a process holds the lease under an epoch. The epoch alone
// would not do: a keeper that was put back to an older file may give one twice.
func (l Lease) heldBy(epoch int64, token string) bool {
	return l.Held && l.Epoch == epoch && l.Holder.Token == token
}

// HeldError tells that somebody else holds the lease.
type HeldError struct {
	// Keeper is the keeper's host.
	Keeper string
	Lease  Lease
}

func (e *HeldError) Error() string {
	l := e.Lease
	var b strings.Builder
	fmt.Fprintf(&b, "the lease on %s is held by %s since %s", e.Keeper, l.Holder, l.Acquired.UTC().Format(time.RFC3339))
	if l.Why != "" {
		fmt.Fprintf(&b, " for %s", l.Why)
	}
	if l.Step != "" {
		fmt.Fprintf(&b, ", at step %q", l.Step)
	}
	fmt.Fprintf(&b, ", last sign of life %s ago", l.Age().Round(time.Second))
	if l.Expired() {
		fmt.Fprintf(&b, "; it is free %s after that by itself, or at once by \"refit unlock\" if that run is dead", 2*l.TTL)
	} else {
		b.WriteString("; wait for it to end, or see \"refit unlock\"")
	}
	return b.String()
}

// Entry is one journal on a shelf.
type Entry struct {
	ID    string    `json:"id"`
	Epoch int64     `json:"epoch"`
	Seq   int64     `json:"seq"`
	Saved time.Time `json:"saved"`
	// Size in bytes.
	Size int `json:"size"`
	// Damaged says what is wrong with it; empty if nothing is.
	Damaged string `json:"damaged,omitempty"`
	// File is its path below the shelf's folder, where that is not the run's own.
	File string `json:"file,omitempty"`
}

// Caller calls a verb on the keeper's host. *node.Agent is one.
type Caller interface {
	Call(ctx context.Context, verb string, in any, payload io.Reader, out any, say func(string)) error
}

// refusal is how a verb answers with an error that the client makes typed again.
type refusal struct {
	Code  string `json:"code"`
	Text  string `json:"text"`
	Lease *Lease `json:"lease,omitempty"`
}

// The codes of refusals.
const (
	codeHeld     = "held"
	codeStale    = "stale"
	codeDamaged  = "damaged"
	codeNewer    = "newer-format"
	codeNoSpace  = "no-space"
	codeReadOnly = "read-only"
	codeMissing  = "not-found"
	codeNoWord   = "not-approved"
)

var kinds = map[string]error{
	codeStale: ErrStale, codeDamaged: ErrDamaged, codeNewer: ErrNewerFormat,
	codeNoSpace: ErrNoSpace, codeReadOnly: ErrReadOnly, codeMissing: fs.ErrNotExist, codeNoWord: ErrNoApproval,
}

// refuse turns an error of the file side into what goes over the wire; nil for an
// error that has no code.
func refuse(err error) *refusal {
	var held *HeldError
	if errors.As(err, &held) {
		return &refusal{Code: codeHeld, Text: err.Error(), Lease: &held.Lease}
	}
	for code, kind := range kinds {
		if errors.Is(err, kind) {
			return &refusal{Code: code, Text: err.Error()}
		}
	}
	return nil
}

// err makes the error again on the caller's side.
func (r *refusal) err(keeper string) error {
	if r == nil {
		return nil
	}
	if r.Code == codeHeld && r.Lease != nil {
		return &HeldError{Keeper: keeper, Lease: *r.Lease}
	}
	kind, known := kinds[r.Code]
	if !known {
		return fmt.Errorf("keeper %s: %s (unknown code %s)", keeper, r.Text, strconv.Quote(r.Code))
	}
	return &kindError{text: "keeper " + keeper + ": " + r.Text, kind: kind}
}

// kindError is a text that is, for errors.Is, of a kind.
type kindError struct {
	text string
	kind error
}

func (e *kindError) Error() string        { return e.text }
func (e *kindError) Is(target error) bool { return target == e.kind }
