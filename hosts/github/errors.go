package github

import (
	"errors"
	"fmt"
	"time"
)

// What a source can fail of, to be told apart with errors.Is. All but a
// context's end come as *Error.
var (
	// ErrLimited: GitHub answers no more for now. Error.Until says until when;
	// nothing is sent before. It ends by itself.
	ErrLimited = errors.New("GitHub's rate limit")
	// ErrUnreachable: no whole answer came, or GitHub said that it is out of
	// order, for as long as Options.Patience. It may end by itself.
	ErrUnreachable = errors.New("GitHub unreachable")
	// ErrAnswer: an answer came that is not what the API describes: another
	// program answers for GitHub, or the API has changed. What it said is not used.
	ErrAnswer = errors.New("not an answer of GitHub's API")
	// ErrUnsettled: the list changed every time it was read; the next poll will do.
	ErrUnsettled = errors.New("the list of releases changes while it is read")
	// ErrDenied: the token is refused, or what it may do does not suffice. A
	// person must act.
	ErrDenied = errors.New("GitHub denies access")
	// ErrMoved: the repository has another name or another owner now. A person
	// must look at who that is.
	ErrMoved = errors.New("the repository has moved")
	// ErrNotFound: there is no such repository, release or tag, or the token may
	// not see it; GitHub gives the same answer to both.
	ErrNotFound = errors.New("not found on GitHub")
	// ErrRefused: GitHub understood what was sent and will not have it, such as a pull
	// request without a change. Sending it again does not help.
	ErrRefused = errors.New("GitHub refuses what was sent")
)

// Error is a source that failed. It never means that there is nothing new.
type Error struct {
	// Kind is one of the errors above; errors.Is finds it.
	Kind error
	// Source is the host that was asked, such as api.github.com.
	Source string
	// What was asked for, such as "the releases of mastodon/mastodon".
	What string
	// Until is when it makes sense to ask again, by this machine's clock; zero
	// where nobody said.
	Until time.Time
	// Happened tells what came instead of an answer.
	Happened string
	// Advice tells what to do next.
	Advice string
	// Cause is the error below, nil where an answer came.
	Cause error

	wait  time.Duration // the least pause before the next attempt
	again bool          // whether another attempt within one call may help
	token bool          // whether a token was given
}

func (e *Error) Error() string {
	return fmt.Sprintf("cannot get %s from %s: %s; %s", e.What, e.Source, e.Happened, e.Advice)
}

// Is makes errors.Is(err, ErrLimited) and its like true.
func (e *Error) Is(target error) bool { return target == e.Kind }

// Unwrap gives the error below, such as a *net.OpError.
func (e *Error) Unwrap() error { return e.Cause }

// Rests is until when a process that comes after this one is to ask nothing; zero if it
// may. What those without a token have used up says nothing to one that has been given a
// token since.
func (e *Error) Rests() time.Time {
	if !e.token {
		return time.Time{}
	}
	return e.Until
}

// Still is the error of a question for releases while GitHub rests, by what an earlier
// process was told (Rests); nil if that is over. What is farther off than any limit is
// not believed: a clock was wrong.
func Still(repo Repo, rests, now time.Time) error {
	if left := rests.Sub(now); left <= 0 || left > longest {
		return nil
	}
	return &Error{
		Kind: ErrLimited, Source: "GitHub", What: "the releases of " + repo.String(), Until: rests,
		Happened: "it has asked to be left alone", Advice: "nothing is sent before " + clock(rests), token: true,
	}
}

// clock writes a time for people, to the second, in UTC.
func clock(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05 MST") }
