package bench

import (
	"slices"
	"strings"
	"testing"
)

func TestAnEmptyChoiceIsAllThereIs(t *testing.T) {
	c, err := Choice{}.Fill()
	if err != nil {
		t.Fatal(err)
	}
	if len(c.Only) != 4 || c.Rounds != 3 || len(c.cases()) != 4 {
		t.Errorf("got %+v with %v", c, c.cases())
	}
	if got := c.chosenTargets(); !slices.Equal(got, []string{"v4.5.21", "v4.6.20"}) {
		t.Errorf("targets %v", got)
	}
	for _, one := range c.cases() {
		if one.From() != Base || one.To() == "" {
			t.Errorf("%s goes from %q to %q", one, one.From(), one.To())
		}
	}
}

func TestAChoiceOfWhatIsNotKnownIsRefused(t *testing.T) {
	for _, c := range []Choice{{Only: []string{"make"}}, {Kinds: []string{"major"}}, {Links: []string{"fast"}}, {Rounds: -1}} {
		if _, err := c.Fill(); err == nil {
			t.Errorf("%+v is not refused", c)
		}
	}
	if _, err := (Choice{Only: []string{"make"}}).Fill(); err == nil || !strings.Contains(err.Error(), "capistrano") {
		t.Errorf("the refusal does not say what there is: %v", err)
	}
}

func TestEachContenderComesFirstInItsTurn(t *testing.T) {
	c := Choice{Only: []string{Refit, Hand, Ansible}}
	var first []string
	for round := range 4 {
		order := c.order(round)
		if len(order) != 3 || slices.Contains(order[1:], order[0]) {
			t.Fatalf("round %d: %v", round, order)
		}
		first = append(first, order[0])
	}
	if !slices.Equal(first, []string{Refit, Hand, Ansible, Refit}) {
		t.Errorf("first are %v", first)
	}
	if !slices.Equal(c.Only, []string{Refit, Hand, Ansible}) {
		t.Errorf("the choice itself was changed: %v", c.Only)
	}
}
