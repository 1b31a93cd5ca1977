package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/bmctl/bmctl/cli/config"
	"github.com/bmctl/bmctl/cli/out"
	"github.com/bmctl/bmctl/power"
)

// logins finds out whom to log in as on BMCs, and asks every place only once.
type logins struct {
	a     *app
	flags loginFlags
	found map[string]power.Secret
}

// logIn fills in user names and passwords. A password that is nowhere is asked
// for on the terminal, once for each user.
func (a *app) logIn(ctx context.Context, chosen []chosenBMC, flags loginFlags) error {
	l := logins{a: a, flags: flags, found: map[string]power.Secret{}}

	var missing []int

	for i := range chosen {
		if err := l.fill(ctx, &chosen[i]); err != nil {
			return err
		}

		if chosen[i].Password.IsZero() && !chosen[i].served {
			missing = append(missing, i)
		}
	}

	return l.ask(ctx, chosen, missing)
}

// entry are the credentials that the configuration has for the BMC.
func (l *logins) entry(bmc chosenBMC) (name string, entry config.Credential) {
	name = cmp.Or(l.a.file.Hosts[bmc.host].Credentials, config.DefaultCredentials)
	if bmc.hearsay {
		return name, config.Credential{}
	}

	return name, l.a.file.Credentials[name]
}

func (l *logins) fill(ctx context.Context, bmc *chosenBMC) error {
	name, entry := l.entry(*bmc)

	bmc.Username = cmp.Or(l.flags.username, entry.Username)

	switch {
	case bmc.hearsay && (bmc.Username == "" || bmc.Address == ""):
		bmc.served = true

		return nil
	case bmc.Username == "":
		return nobody(*bmc, name)
	}

	given, err := l.once(l.givenKey(*bmc), func() (power.Secret, error) { return l.a.givenPassword(ctx, l.flags, bmc.Address) })
	if err != nil || !given.IsZero() || bmc.Username != entry.Username {
		bmc.Password = given

		return err
	}

	key := "entry " + name
	if slices.ContainsFunc(entry.PasswordCommand, hasHost) {
		key += " " + bmc.Address
	}

	bmc.Password, err = l.once(key, func() (power.Secret, error) { return l.a.credentialPassword(ctx, entry, bmc.Address) })

	return err
}

func nobody(bmc chosenBMC, entry string) error {
	f := failf(codeUsage, "give --username, or credentials in the configuration: bmctl config path",
		"%s: the configuration has no credentials %q, and no --username is given", bmc.Name, entry)
	f.target, f.err = bmc.Name, errNobody

	return f
}

// errNobody: it is not known whom to log in as.
var errNobody = errors.New("no credentials")

// direct refuses BMCs that only serve can speak to, for what serve does not do.
func direct(chosen []chosenBMC) error {
	for _, bmc := range chosen {
		if bmc.served {
			f := failf(codeUsage, "put the machine in the inventory with its BMC and credentials (bmctl config path), or give --username",
				"%s: only serve has the login of its BMC, and switches its power alone", bmc.Name)
			f.target = bmc.Name

			return f
		}
	}

	return nil
}

func hasHost(word string) bool { return strings.Contains(word, "%h") }

// givenKey tells apart what flags and environment say for different BMCs.
func (l *logins) givenKey(bmc chosenBMC) string {
	if hasHost(l.flags.passwordCommand) {
		return "given " + bmc.Address
	}

	return "given"
}

func (l *logins) once(key string, find func() (power.Secret, error)) (power.Secret, error) {
	if secret, known := l.found[key]; known {
		return secret, nil
	}

	secret, err := find()
	if err == nil {
		l.found[key] = secret
	}

	return secret, err
}

// ask asks for the passwords of the BMCs that still have none.
func (l *logins) ask(ctx context.Context, chosen []chosenBMC, missing []int) error {
	for _, i := range missing {
		user := chosen[i].Username

		secret, err := l.once("typed "+user, func() (power.Secret, error) {
			var same []chosenBMC

			for _, j := range missing {
				if chosen[j].Username == user {
					same = append(same, chosen[j])
				}
			}

			question := fmt.Sprintf("Password of %s on %s: ", out.Clean(user), out.Clean(foldNames(same)))

			return l.a.askSecret(ctx, question, "give --password-file FILE, or set $"+bmcPasswordEnv)
		})
		if err != nil {
			return err
		}

		chosen[i].Password = secret
	}

	return nil
}
