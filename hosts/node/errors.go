package node

import (
	"errors"
	"fmt"
	"io/fs"
	"syscall"

	"vmst.io/refit/hosts"
)

// Errors that callers tell apart, for errors.Is on what a call returned.
var (
	// ErrFenced: the host has seen a higher epoch. The caller's lease is gone; it
	// must stop where it stands. Retrying never helps.
	ErrFenced = errors.New("fenced")
	// ErrNotFound: a release, unit record, file or verb that the host does not have.
	ErrNotFound = errors.New("not found")
	// ErrNoSpace: a disk of the host is full. What the verb had begun is removed.
	ErrNoSpace = errors.New("no space left")
	// ErrPayload: what arrived is not what was announced (cut short, other hash).
	// Repeating the call is safe.
	ErrPayload = errors.New("payload damaged")
	// ErrBase: the host has not the release that a pack begins from. A pack that begins
	// from none will do.
	ErrBase = errors.New("another base is needed")
	// ErrInUse: refused because the release or unit is in use on the host.
	ErrInUse = errors.New("in use")
	// ErrSignature: what is to be placed, or lies there, has no signature that the host
	// accepts. Repeating the call does not help.
	ErrSignature = errors.New("not signed as demanded")
	// ErrTimeout: the time that the request allowed has passed; the error's text
	// says what is still going on.
	ErrTimeout = errors.New("timed out")
	// ErrSealed: the host has no permit for the machine that it is, so none of Mastodon's
	// units starts there. It may be a clone; a person decides.
	ErrSealed = errors.New("sealed")
	// ErrSilent: nothing came from the host within the Agent's Deadline. The verb
	// may still be running; repeating it is safe, it looks before it acts.
	ErrSilent = hosts.ErrSilent
)

// The codes that stand in Reply.Code for the errors above.
const (
	CodeFenced    = "fenced"
	CodeNotFound  = "not-found"
	CodeNoSpace   = "no-space"
	CodePayload   = "payload"
	CodeBase      = "base"
	CodeInUse     = "in-use"
	CodeSignature = "signature"
	CodeTimeout   = "timeout"
	CodeSealed    = "sealed"
	CodeFailed    = "failed"
)

// Error is what a verb answered instead of a result.
type Error struct {
	// Host is the name of the host as the fleet knows it; empty on the host itself.
	Host string
	// Verb is the verb's name.
	Verb string
	// Code is one of the codes above.
	Code string
	// Text is the error in words; it says what to do where that is known.
	Text string
}

func (e *Error) Error() string {
	if e.Host == "" {
		return e.Text
	}
	return e.Host + ": " + e.Text
}

// Is makes errors.Is(err, ErrFenced) and its like work.
func (e *Error) Is(target error) bool {
	switch target {
	case ErrFenced:
		return e.Code == CodeFenced
	case ErrNotFound:
		return e.Code == CodeNotFound
	case ErrNoSpace:
		return e.Code == CodeNoSpace
	case ErrPayload:
		return e.Code == CodePayload
	case ErrBase:
		return e.Code == CodeBase
	case ErrInUse:
		return e.Code == CodeInUse
	case ErrSignature:
		return e.Code == CodeSignature
	case ErrTimeout:
		return e.Code == CodeTimeout
	case ErrSealed:
		return e.Code == CodeSealed
	}
	return false
}

// Failf makes an error with a code, for verbs.
func Failf(code, format string, args ...any) error {
	return &Error{Code: code, Text: fmt.Sprintf(format, args...)}
}

// code finds the code for an error that a verb returned.
func code(err error) string {
	var e *Error
	switch {
	case errors.As(err, &e):
		return e.Code
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		return CodeNoSpace
	case errors.Is(err, fs.ErrNotExist):
		return CodeNotFound
	}
	return CodeFailed
}
