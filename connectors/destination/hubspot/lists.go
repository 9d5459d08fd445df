package hubspot

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"

	"github.com/dray-dev/dray/connectors/destination"
	"github.com/dray-dev/dray/connectors/encode"
	"github.com/dray-dev/dray/connectors/httpx"
)

const (
	listsPath   = "/crm/v3/lists"
	contactType = "0-1" // objectTypeId of contacts (lists.json)
)

// list is what lists.json calls PublicObjectList.
type list struct {
	ID         string `json:"listId"`
	ObjectType string `json:"objectTypeId"`
	Processing string `json:"processingType"`
}

// Container finds the list that the options name, or makes it where they allow.
func (a *account) Container(ctx context.Context, object string, options destination.Config) (string, error) {
	if object != listMembers {
		return "", nil
	}
	name, id := options.String("list"), options.String("list_id")
	switch {
	case (name == "") == (id == ""):
		return "", invalid("list_members needs either options.list or options.list_id").WithHint("add options: {list: NAME}")
	case id != "":
		return a.existing(ctx, "id "+id, listsPath+"/"+url.PathEscape(id))
	}
	path := listsPath + "/object-type-id/" + contactType + "/name/" + url.PathEscape(name)
	found, err := a.existing(ctx, "name "+name, path)
	if !isNoList(err) || !options.Bool("create") {
		return found, err
	}
	found, err = a.createList(ctx, name)
	var refused *destination.Error
	if errors.As(err, &refused) && refused.Class != destination.Stop { // made by another process, or made and not answered
		if again, err2 := a.existing(ctx, "name "+name, path); err2 == nil {
			return again, nil
		}
	}
	return found, err
}

// errNoList marks a list that does not exist.
var errNoList = errors.New("no such list")

func isNoList(err error) bool { return errors.Is(err, errNoList) }

// existing reads a list and makes sure that it can be written to.
func (a *account) existing(ctx context.Context, called, path string) (string, error) {
	var answer struct {
		List list `json:"list"`
	}
	err := a.read(ctx, "find the list", http.MethodGet, path, nil, &answer)
	var h *httpx.Error
	switch {
	case errors.As(err, &h) && h.Status == http.StatusNotFound:
		e := invalid("there is no list with the %s", called).WithHint("make it in HubSpot as a static list of contacts, or add create: true")
		e.Err = errNoList
		return "", e
	case err != nil:
		return "", err
	case answer.List.ID == "":
		return "", &destination.Error{Class: destination.Unknown, Code: "answer_unreadable", Message: "find the list: the answer holds no list"}
	case answer.List.ObjectType != contactType:
		return "", invalid("the list with the %s is not a list of contacts", called)
	case answer.List.Processing != "MANUAL" && answer.List.Processing != "SNAPSHOT":
		return "", invalid("the list with the %s is %s: HubSpot fills it itself", called, answer.List.Processing).
			WithHint("choose a static list, or convert it in HubSpot")
	}
	return answer.List.ID, nil
}

func (a *account) createList(ctx context.Context, name string) (string, error) {
	body := append([]byte(`{"name":`), encode.String(nil, name)...)
	body = append(body, `,"objectTypeId":"`+contactType+`","processingType":"MANUAL"}`...)
	resp, err := a.http.Write(ctx, httpx.Request{
		Method: http.MethodPost, URL: a.base + listsPath, Header: a.header, Secrets: a.secrets, Body: body, What: "create the list",
	})
	if err != nil {
		return "", failure(err)
	}
	var answer struct {
		List list `json:"list"`
	}
	if err := json.Unmarshal(resp.Body, &answer); err != nil || answer.List.ID == "" {
		return "", &destination.Error{Class: destination.Unknown, Code: "answer_unreadable", Message: "create the list: the answer holds no list"}
	}
	return answer.List.ID, nil
}

// membership is HubSpot's answer to adding or removing; the added ones are found under two spellings.
type membership struct {
	Added    *[]string `json:"recordsIdsAdded"`
	AddedToo *[]string `json:"recordIdsAdded"`
	Removed  *[]string `json:"recordIdsRemoved"`
	Missing  *[]string `json:"recordIdsMissing"`
}

// writeMembers adds or removes record ids. The engine resolves them; a change without one names nobody.
func (a *account) writeMembers(ctx context.Context, b *destination.Batch) ([]destination.Outcome, error) {
	outcomes := make([]destination.Outcome, len(b.Changes))
	rows := map[string][]int{}
	buffer := a.buffers.Get()
	body := append(buffer.Bytes, '[')
	for i := range b.Changes {
		id := b.Changes[i].RemoteID
		if id == "" {
			outcomes[i] = destination.Outcome{Class: destination.NotFound, Code: "no_record", Message: "there is no such contact"}
			continue
		}
		if rows[id] = append(rows[id], i); len(rows[id]) > 1 {
			continue
		}
		if len(rows) > 1 {
			body = append(body, ',')
		}
		body = encode.String(body, id)
	}
	buffer.Bytes = append(body, ']')
	if len(rows) == 0 {
		buffer.Release()
		return outcomes, nil
	}
	verb := "add"
	if b.Changes[0].Operation == destination.OpRemove {
		verb = "remove"
	}
	resp, err := a.http.Write(ctx, httpx.Request{
		Method: http.MethodPut, URL: a.base + listsPath + "/" + url.PathEscape(b.Container) + "/memberships/" + verb,
		Header: a.header, Secrets: a.secrets, Body: buffer.Bytes, Release: buffer.Release, What: verb + " list members",
	})
	if err != nil {
		return nil, memberFailure(err)
	}
	results := readMembership(resp.Body, verb)
	if verb == "add" && results.readable {
		if err := a.settleMentions(ctx, b.Container, rows, results.byID); err != nil {
			results.otherwise.Message = "HubSpot did not mention this row, and asking for its lists failed: " + err.Error()
		}
	}
	for id, indexes := range rows {
		o, mentioned := results.byID[id]
		if !mentioned {
			o = results.otherwise
		}
		o.RemoteID = id
		for _, i := range indexes {
			outcomes[i] = o
		}
	}
	return outcomes, nil
}

// memberFailure: the path names the list, so a 404 is about it and not about a row.
func memberFailure(err error) *destination.Error {
	e := failure(err)
	var h *httpx.Error
	if errors.As(err, &h) && h.Status == http.StatusNotFound {
		e.Class, e.Code, e.Message = destination.Stop, "list_not_found", "the list does not exist any more"
		e.Hint = "restore it in HubSpot, or name another list"
	}
	return e
}

// memberResults are the outcomes by record id, and that of ids which are not mentioned.
type memberResults struct {
	byID      map[string]destination.Outcome
	otherwise destination.Outcome
	readable  bool
}

// readMembership: HubSpot leaves out of its lists, without an error, ids that are in the list already (add) or are not in it
// (remove), and may leave out ids that it does not know. For a remove either is what was wanted.
func readMembership(body []byte, verb string) memberResults {
	out := memberResults{byID: map[string]destination.Outcome{}}
	var m membership
	if err := json.Unmarshal(body, &m); err != nil || m.Missing == nil || verb == "add" && m.Added == nil && m.AddedToo == nil || verb == "remove" && m.Removed == nil {
		out.otherwise = destination.Outcome{Class: destination.Unknown, Code: "answer_unreadable", Message: "the answer is not the JSON that HubSpot documents"}
		return out
	}
	out.readable = true
	done := []*[]string{m.Added, m.AddedToo}
	if verb == "remove" {
		done = []*[]string{m.Removed}
		out.otherwise = destination.Outcome{Class: destination.Delivered}
	} else {
		out.otherwise = destination.Outcome{Class: destination.Unknown, Code: "not_mentioned", Message: "the answer does not mention this row"}
	}
	for _, ids := range done {
		if ids == nil {
			continue
		}
		for _, id := range *ids {
			out.byID[id] = destination.Outcome{Class: destination.Delivered}
		}
	}
	for _, id := range *m.Missing {
		out.byID[id] = destination.Outcome{Class: destination.NotFound, Code: "no_record", Message: "there is no such contact any more"}
	}
	return out
}

// settleMentions asks which lists the unmentioned ids are in: those in ours were members already, and HubSpot's contract
// leaves for the others only that they do not exist. Ids that this answer leaves out too stay unmentioned.
func (a *account) settleMentions(ctx context.Context, listID string, rows map[string][]int, byID map[string]destination.Outcome) error {
	var open []string
	for id := range rows {
		if _, mentioned := byID[id]; !mentioned {
			open = append(open, id)
		}
	}
	for len(open) > 0 {
		n := min(len(open), maxBatch)
		if err := a.readMemberships(ctx, listID, open[:n], byID); err != nil {
			return err
		}
		open = open[n:]
	}
	return nil
}

func (a *account) readMemberships(ctx context.Context, listID string, ids []string, byID map[string]destination.Outcome) error {
	body := []byte(`{"inputs":[`)
	for i, id := range ids {
		if i > 0 {
			body = append(body, ',')
		}
		body = append(body, `{"objectTypeId":"`+contactType+`","recordId":`...)
		body = append(encode.String(body, id), '}')
	}
	body = append(body, "]}"...)
	var answer struct {
		Status  string `json:"status"`
		Results []struct {
			RecordID    string `json:"recordId"`
			Memberships []struct {
				ListID string `json:"listId"`
			} `json:"recordListMemberships"`
		} `json:"results"`
	}
	if err := a.read(ctx, "read list memberships", http.MethodPost, listsPath+"/records/memberships/batch/read", body, &answer); err != nil {
		return err
	}
	if answer.Status != complete {
		return nil // the rows stay unmentioned
	}
	for _, r := range answer.Results {
		o := destination.Outcome{Class: destination.NotFound, Code: "no_record", Message: "HubSpot neither added this record nor has it in the list"}
		for _, m := range r.Memberships {
			if m.ListID == listID {
				o = destination.Outcome{Class: destination.Delivered}
			}
		}
		byID[r.RecordID] = o
	}
	return nil
}
