package demo

import (
	"testing"
	"time"
)

func TestParseRequests(t *testing.T) {
	const log = `time="2026-11-23 17:55:15.457" level=info msg=request bytes=917 duration=31.03ms method=GET path=/v3/p/extensions project=p request_id=req-1 status=200 user=u
time="2026-11-23 17:55:15.458" level=info msg="lease taken" name=jobs
time="2026-11-23 17:55:15.500" level=warning msg="request refused" bytes=14 duration="765µs" error="no such volume" method=GET path=/v3/p/volumes/vm project=p request_id=req-2 status=404 user=u
time="2026-11-23 17:55:15.600" level=info msg=request bytes=90000 duration=60ms method=POST path=/v3/p/volumes/batch project=p request_id=req-3 status=202 user=u
time="2026-11-23 17:55:17.000" level=info msg=request bytes=14 duration=1ms method=GET path=/v3/p/volumes/detail project=p request_id=req-4 status=200 user=u
`
	at := func(ms int) time.Time { return time.Date(2026, 11, 23, 17, 55, 15, ms*int(time.Millisecond), time.UTC) }
	got, err := parseRequests(log, at(1000))
	want := requests{
		count: 3, first: at(457).Add(-31030 * time.Microsecond), last: at(600),
		worked: 31030*time.Microsecond + 765*time.Microsecond + 60*time.Millisecond,
	}
	if err != nil || got != want {
		t.Errorf("got %+v, %v\nwant %+v", got, err, want)
	}
	for what, bad := range map[string]string{
		"nothing":  "",
		"time":     `time="yesterday" level=info msg=request duration=1ms method=GET` + "\n",
		"duration": `time="2026-11-23 17:55:15.457" level=info msg=request duration=soon method=GET` + "\n",
	} {
		if got, err := parseRequests(bad, at(1000)); err == nil {
			t.Errorf("%s: %+v", what, got)
		}
	}
}
