package hubspot

import (
	"context"
	"errors"
	"net/http"

	"github.com/dray-dev/dray/connectors/destination"
	"github.com/dray-dev/dray/connectors/encode"
	"github.com/dray-dev/dray/connectors/httpx"
)

const contactsPath = "/crm/v3/objects/contacts"

// action is one of HubSpot's batch calls.
type action string

const (
	upsert  action = "upsert"
	update  action = "update"
	create  action = "create"
	archive action = "archive"
)

// actionOf chooses the call for a batch, whose changes have one operation.
//
// An update that carries changed properties only must never create: the vendor's upsert would bring a contact that somebody
// deleted back with just those. An update that carries all of them (an uncertain row, mostly) may.
func actionOf(b *destination.Batch) action {
	first := &b.Changes[0]
	switch {
	case first.Operation == destination.OpRemove && first.Remove == "delete":
		return archive
	case first.Operation == destination.OpRemove, first.Operation == destination.OpRekey, b.Run.Mode == destination.Update:
		return update
	case b.Run.Mode == destination.Insert:
		return create
	case first.Operation == destination.OpAdd:
		return upsert
	}
	for i := range b.Changes {
		if !whole(&b.Changes[i]) {
			return update
		}
	}
	return upsert
}

// whole tells whether a change carries all fields.
func whole(c *destination.Change) bool {
	for _, sends := range c.Send {
		if !sends {
			return false
		}
	}
	return true
}

func (a *account) writeContacts(ctx context.Context, b *destination.Batch) ([]destination.Outcome, error) {
	act := actionOf(b)
	if b.Schema.Key[0].Name == recordID && (act == upsert || act == create) {
		return nil, &destination.Error{
			Class: destination.Stop, Code: "key", Message: "a contact cannot be created with a record id",
			Hint: "use mode: update, or a key such as email",
		}
	}
	if act == archive {
		return a.archive(ctx, b)
	}
	all := make([]int, len(b.Changes))
	for i := range all {
		all[i] = i
	}
	outcomes, err := a.batch(ctx, b, act, all)
	if err != nil {
		return nil, err
	}
	if act == update && b.Changes[0].Operation == destination.OpUpdate && b.Run.Mode != destination.Update {
		a.upsertMissing(ctx, b, outcomes)
	}
	return outcomes, nil
}

// upsertMissing sends those updates again that found no contact and carry all fields: they may create it. Where this second
// request fails, the first one's answer stands (or the row is uncertain, if it may have been applied).
func (a *account) upsertMissing(ctx context.Context, b *destination.Batch, outcomes []destination.Outcome) {
	var rows []int
	for i := range outcomes {
		if outcomes[i].Class == destination.NotFound && whole(&b.Changes[i]) {
			rows = append(rows, i)
		}
	}
	if len(rows) == 0 {
		return
	}
	second, err := a.batch(ctx, b, upsert, rows)
	var failed *destination.Error
	switch {
	case errors.As(err, &failed) && failed.Class != destination.Unknown:
		return
	case err != nil:
		for _, i := range rows {
			outcomes[i] = destination.Outcome{Class: destination.Unknown, Code: "unanswered", Message: err.Error()}
		}
	default:
		for n, i := range rows {
			outcomes[i] = second[n]
		}
	}
}

// batch sends the given rows in one call and returns their outcomes, in the order of rows.
func (a *account) batch(ctx context.Context, b *destination.Batch, act action, rows []int) ([]destination.Outcome, error) {
	buffer := a.buffers.Get()
	sent := make([]string, len(rows))
	body := append(buffer.Bytes, `{"inputs":[`...)
	for n, i := range rows {
		if n > 0 {
			body = append(body, ',')
		}
		body, sent[n] = appendInput(body, b, act, &b.Changes[i], traceID(n))
	}
	buffer.Bytes = append(body, "]}"...)
	resp, err := a.http.Write(ctx, httpx.Request{
		Method: http.MethodPost, URL: a.base + contactsPath + "/batch/" + string(act), Header: a.header, Secrets: a.secrets,
		Body: buffer.Bytes, Release: buffer.Release, What: string(act) + " contacts",
	})
	if err != nil {
		e := failure(err)
		if e.Code == notFoundCategory && len(rows) == 1 {
			return []destination.Outcome{{Class: destination.NotFound, Code: e.Code, Message: e.Message}}, nil
		}
		if e.Code == conflictCategory && len(rows) == 1 && act == create {
			return []destination.Outcome{{Class: destination.Rejected, Code: e.Code, Message: e.Message, Exists: true}}, nil
		}
		return nil, e
	}
	return readBatch(resp.Body, act, sent), nil
}

// appendInput writes one row; it also returns the id by which the row was named.
func appendInput(dst []byte, b *destination.Batch, act action, c *destination.Change, trace string) ([]byte, string) {
	key := b.Schema.Key[0].Name
	id, property := "", ""
	switch {
	case act == create:
	case act == update && c.RemoteID != "":
		id = c.RemoteID
	case c.Operation == destination.OpRekey:
		id, property = text(c.OldKey[0], b.Schema.Key[0].Kind), key
	default:
		id, property = text(c.Key[0], b.Schema.Key[0].Kind), key
	}
	if property == recordID {
		property = ""
	}
	dst = append(dst, '{')
	if act == create {
		dst = append(dst, `"associations":[],`...)
	} else {
		dst = append(dst, `"id":`...)
		dst = append(encode.String(dst, id), ',')
	}
	if property != "" {
		dst = append(dst, `"idProperty":`...)
		dst = append(encode.String(dst, property), ',')
	}
	dst = append(dst, `"objectWriteTraceId":`...)
	dst = append(encode.String(dst, trace), `,"properties":`...)
	dst = appendProperties(dst, b, act, c)
	return append(dst, '}'), id
}

// appendProperties writes the fields that the change sends. The key stands among them where a contact may be created, and
// where it changes.
func appendProperties(dst []byte, b *destination.Batch, act action, c *destination.Change) []byte {
	dst = append(dst, '{')
	first := true
	add := func(name, value string) {
		if !first {
			dst = append(dst, ',')
		}
		first = false
		dst = append(encode.String(dst, name), ':')
		dst = encode.String(dst, value)
	}
	key := b.Schema.Key[0]
	withKey := (act == upsert || act == create || c.Operation == destination.OpRekey) && key.Name != recordID
	if withKey {
		add(key.Name, text(c.Key[0], key.Kind))
	}
	for i, f := range b.Schema.Fields {
		switch {
		case i >= len(c.Fields) && c.Remove != "clear", !c.Sends(i), withKey && f.Name == key.Name:
		case c.Remove == "clear":
			add(f.Name, "")
		default:
			add(f.Name, text(c.Fields[i], f.Kind))
		}
	}
	return append(dst, '}')
}

// archive deletes by record id. HubSpot answers 204 for all of them and takes no notice of ids that are gone.
func (a *account) archive(ctx context.Context, b *destination.Batch) ([]destination.Outcome, error) {
	ids, err := a.recordIDs(ctx, b)
	if err != nil {
		return nil, err
	}
	outcomes := make([]destination.Outcome, len(ids))
	buffer := a.buffers.Get()
	body := append(buffer.Bytes, `{"inputs":[`...)
	n := 0
	for i, id := range ids {
		if id == "" {
			outcomes[i] = destination.Outcome{Class: destination.NotFound, Code: notFoundCategory, Message: "there is no such contact"}
			continue
		}
		if n > 0 {
			body = append(body, ',')
		}
		n++
		body = append(body, `{"id":`...)
		body = append(encode.String(body, id), '}')
		outcomes[i] = destination.Outcome{Class: destination.Delivered, RemoteID: id}
	}
	buffer.Bytes = append(body, "]}"...)
	if n == 0 {
		buffer.Release()
		return outcomes, nil
	}
	resp, err := a.http.Write(ctx, httpx.Request{
		Method: http.MethodPost, URL: a.base + contactsPath + "/batch/archive", Header: a.header, Secrets: a.secrets,
		Body: buffer.Bytes, Release: buffer.Release, What: "archive contacts",
	})
	if err != nil {
		return nil, failure(err)
	}
	if resp.Status == http.StatusNoContent {
		return outcomes, nil
	}
	for i := range outcomes {
		if outcomes[i].Class == destination.Delivered {
			outcomes[i] = destination.Outcome{Class: destination.Unknown, Code: "answer_unreadable", Message: "HubSpot did not say that it archived"}
		}
	}
	return outcomes, nil
}

// recordIDs are the changes' record ids, looked up by key where they are not known.
func (a *account) recordIDs(ctx context.Context, b *destination.Batch) ([]string, error) {
	for i := range b.Changes {
		if b.Changes[i].RemoteID == "" {
			return a.Resolve(ctx, b)
		}
	}
	ids := make([]string, len(b.Changes))
	for i := range b.Changes {
		ids[i] = b.Changes[i].RemoteID
	}
	return ids, nil
}
