package cloud

import (
	"errors"
	"fmt"
)

// Errors that callers tell apart.
var (
	// ErrNotFound: the account has no such thing.
	ErrNotFound = errors.New("not in the account")
	// ErrBusy: another action is open on the droplet.
	ErrBusy = errors.New("another action is open on the droplet")
	// ErrErrored: the action ended as errored; the API gives no reason.
	ErrErrored = errors.New("the action ended as errored")
	// ErrDenied: the token is wrong, withdrawn or expired.
	ErrDenied = errors.New("the token is not accepted: it is wrong, withdrawn or expired")
	// ErrLost: the answer to a write was lost and what it should have done was not found.
	// It may still come, so it is looked for again before it is ever sent again.
	ErrLost = errors.New("the answer was lost")
	// ErrLimit: the limit of requests is spent for longer than was waited.
	ErrLimit = errors.New("the limit of requests is spent")
)

// ScopeError tells that the token lacks a scope.
type ScopeError struct {
	// Scope such as "droplet:update"; "" where it is not known.
	Scope string
}

func (e *ScopeError) Error() string {
	if e.Scope == "" {
		return "the token lacks a scope"
	}
	return fmt.Sprintf("the token lacks the scope %s", e.Scope)
}
