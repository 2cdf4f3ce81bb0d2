package hosts

import "errors"

// Errors of the way to a host. Every Shell wraps one of them where it applies,
// so that a caller can tell them apart whatever carries its commands.
var (
	// ErrUnreachable: no connection could be made. Nothing ran; retrying is safe.
	ErrUnreachable = errors.New("unreachable")
	// ErrAuth: the host refused every key that was offered. Retrying does not help.
	ErrAuth = errors.New("authentication refused")
	// ErrHostKey: the host showed a key that known_hosts lacks or contradicts.
	// Retrying does not help; a person must look.
	ErrHostKey = errors.New("host key not accepted")
	// ErrSilent: the host took the connection or the command and then answered
	// nothing within the time allowed. What was started may still be running.
	ErrSilent = errors.New("no answer")
	// ErrLost: the connection broke while a command ran. The command may still be
	// running, or may have ended; look before repeating it.
	ErrLost = errors.New("connection lost")
)
