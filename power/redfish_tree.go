package power

import (
	"cmp"
	"context"
	"encoding/json"
	"net/http"
	"strings"
	"unicode"

	"github.com/stmcginnis/gofish/schemas"
)

// resourceStatus is a resource's Status (Resource.Status).
type resourceStatus struct {
	State        string
	Health       string
	HealthRollup string
}

// health is the resource's own judgement.
func (s resourceStatus) health() Health { return healthOf(s.Health) }

func healthOf(text string) Health {
	switch strings.ToLower(text) {
	case "ok":
		return HealthOK
	case "warning":
		return HealthWarning
	case "critical":
		return HealthCritical
	default:
		return HealthUnknown
	}
}

// words are a value of Redfish's in small letters: "UnavailableOffline" becomes
// "unavailable offline".
func words(value string) string {
	var b strings.Builder

	for i, r := range value {
		if unicode.IsUpper(r) && i > 0 {
			b.WriteByte(' ')
		}

		b.WriteRune(unicode.ToLower(r))
	}

	return b.String()
}

// manager is what the driver reads of a manager.
type manager struct {
	FirmwareVersion    string
	LogServices        odataLink
	EthernetInterfaces odataLink
}

// chassisResource is what the driver reads of a chassis.
type chassisResource struct {
	Path         string `json:"@odata.id"`
	ETag         string `json:"@odata.etag"`
	ID           string `json:"Id"`
	Manufacturer string
	Model        string
	PartNumber   string
	SerialNumber string
	AssetTag     string
	Thermal      odataLink
	Power        odataLink
	Sensors      odataLink
	LogServices  odataLink
	indicator
}

// managers are the managers of the system: those that it names, else all there are.
func (d *redfish) managers(ctx context.Context, s computerSystem) ([]manager, error) {
	return readAll[manager](ctx, d, s.Links.ManagedBy, d.root.Managers)
}

// chassis are the enclosures of the system: those that it names, else all there are.
func (d *redfish) chassis(ctx context.Context, s computerSystem) ([]chassisResource, error) {
	all, err := readAll[chassisResource](ctx, d, s.Links.Chassis, d.root.Chassis)
	for i := range all {
		if i < len(s.Links.Chassis) && len(all) == len(s.Links.Chassis) {
			all[i].Path = s.Links.Chassis[i].ID
		}
	}

	return all, err
}

// readAll reads the linked resources, or where there are no links the members
// of the collection. What is missing is left out.
func readAll[T any](ctx context.Context, d *redfish, links []odataLink, collection odataLink) ([]T, error) {
	var all []T

	if len(links) == 0 {
		err := d.members(ctx, collection.ID, func(raw json.RawMessage) {
			var resource T
			if fits(json.Unmarshal(raw, &resource)) {
				all = append(all, resource)
			}
		})

		return all, err
	}

	for _, link := range links {
		var resource T

		err := d.request(ctx, http.MethodGet, link.ID, nil, nil, &resource)
		if missing := unlessMissing(err); missing != nil {
			return nil, missing
		}

		if err == nil {
			all = append(all, resource)
		}
	}

	return all, nil
}

// members reads a collection: its members stand in it whole, or as links, and
// more of them on further pages (DSP0266, 7.11 and 9.5). No path has none.
func (d *redfish) members(ctx context.Context, path string, visit func(json.RawMessage)) error {
	seen := map[string]bool{"": true}

	for n := 0; !seen[path] && n < mostRecords; {
		seen[path] = true

		var page struct {
			Members []json.RawMessage
			Next    string `json:"Members@odata.nextLink"`
		}

		if err := d.request(ctx, http.MethodGet, path, nil, nil, &page); err != nil {
			return unlessMissing(err)
		}

		for _, member := range page.Members {
			raw, err := d.member(ctx, member)
			if err != nil {
				return err
			}

			if raw != nil {
				visit(raw)
			}
		}

		n += len(page.Members)
		path = page.Next
	}

	return nil
}

// member reads a member that is only a link; nil where it is gone.
func (d *redfish) member(ctx context.Context, raw json.RawMessage) (json.RawMessage, error) {
	var properties map[string]json.RawMessage
	if err := json.Unmarshal(raw, &properties); err != nil || len(properties) != 1 {
		return raw, nil //nolint:nilerr // it is not a link; whoever reads it sees what is wrong
	}

	var (
		link     odataLink
		resource json.RawMessage
	)

	if !fits(json.Unmarshal(raw, &link)) || link.ID == "" {
		return nil, nil
	}

	err := d.request(ctx, http.MethodGet, link.ID, nil, nil, &resource)

	return resource, unlessMissing(err)
}

// fits tells whether what was unmarshalled can be used: properties of another
// type than the schema's count as not told.
func fits(err error) bool {
	misfit, ok := err.(*json.UnmarshalTypeError) //nolint:errorlint // json.Unmarshal does not wrap it

	return err == nil || ok && misfit.Field != ""
}

// unlessMissing lets a resource be absent, or forbidden to this user, that
// others do not need.
func unlessMissing(err error) error {
	if isKind(err, ErrUnsupported) || isKind(err, ErrRefused) || httpStatus(err) == http.StatusForbidden {
		return nil
	}

	return err
}

// decimal is a number that may be missing, null, or written as a text.
type decimal struct {
	value float64
	told  bool
}

// UnmarshalJSON implements json.Unmarshaler.
func (n *decimal) UnmarshalJSON(data []byte) error {
	text := strings.Trim(string(data), `"`)
	// What is no number counts as not told.
	n.told = json.Unmarshal([]byte(text), &n.value) == nil && text != "null"

	return nil
}

// indicator are the two ways in which a resource has a lamp (Redfish 2020.2
// replaced the first by the second).
type indicator struct {
	IndicatorLED            *string
	LocationIndicatorActive *bool
}

// body switches the lamp; nil where there is none.
func (i indicator) body(on bool) map[string]any {
	switch {
	case i.LocationIndicatorActive != nil:
		return map[string]any{"LocationIndicatorActive": on}
	case i.IndicatorLED != nil && on:
		return map[string]any{"IndicatorLED": "Blinking"}
	case i.IndicatorLED != nil:
		return map[string]any{"IndicatorLED": "Off"}
	default:
		return nil
	}
}

// systemsPath is where the systems are.
func (d *redfish) systemsPath() string {
	return cmp.Or(d.root.Systems.ID, schemas.DefaultServiceRoot+"Systems")
}
