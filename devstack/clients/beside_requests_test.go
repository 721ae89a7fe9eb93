//go:build lab

package clients

// besideDifferences are the requests that are answered otherwise on purpose, with the
// reason.
func besideDifferences() map[string]string {
	return map[string]string{
		`POST /volumes {"volume":{"size":1.5}}`:                "the message does not say that null is welcome, too",
		`POST /volumes {"volume":{"size":true}}`:               "as for 1.5",
		"GET /volumes?sort_key=size&sort_dir=asc":              "what sorts alike is in the order of ids, Cinder's in that of age",
		"GET /volumes?name~=a 3.33":                            "inexact filters begin with 3.34 for administrators, too",
		"GET /volumes?with_count=true 3.44":                    "not taken for a filter that nothing can match",
		"GET /volumes?updated_at=neq:2020-01-01T00:00:00 3.60": "a blank volume is available at once, so it was not updated yet",
		"GET /volumes/{a}/metadata 3.15":                       "Cinder calls the JSON it hashes for an ETag HTML",
		"GET /volumes 3.71":                                    "no version in the header of an answer that has none",
	}
}

// requests are those that both services are asked in TestBesideCinder, in order.
func requests() []request {
	get := func(path string, version ...string) request {
		r := request{method: "GET", path: path}
		if len(version) > 0 {
			r.version = version[0]
		}
		return r
	}
	post := func(path, body string) request { return request{method: "POST", path: path, body: body} }
	put := func(path, body string) request { return request{method: "PUT", path: path, body: body} }
	del := func(path string) request { return request{method: "DELETE", path: path} }
	act := func(volume, body string) request { return post("/volumes/{"+volume+"}/action", body) }
	at := func(version string, r request) request {
		r.version = version
		return r
	}
	made := func(name string, r request) request {
		r.save, r.settle = name, true
		return r
	}
	moved := func(r request) request {
		r.settle = true
		return r
	}

	return []request{
		{method: "POST", path: "/types", body: `{"volume_type":{"name":"beside"}}`, save: "type"},
		made("a", post("/volumes", `{"volume":{"size":1,"name":"a","volume_type":"beside","metadata":{"k":"v","n":"1"}}}`)),
		made("b", post("/volumes", `{"volume":{"size":2,"name":"b","description":"second","volume_type":"{type}"}}`)),
		made("c", at("3.70", post("/volumes", `{"volume":{"size":1,"name":"c","volume_type":"beside","imageRef":"{image}","metadata":{"k":"w"}}}`))),

		// Creation that is refused.
		post("/volumes", `{"volume":{"size":"1 ","volume_type":"beside"}}`),
		post("/volumes", `{"volume":{"size":-1}}`),
		post("/volumes", `{"volume":{"size":1.5}}`),
		post("/volumes", `{"volume":{"size":true}}`),
		post("/volumes", `{"volume":{"size":1,"name":1}}`),
		post("/volumes", `{"volume":{"size":1,"metadata":[]}}`),
		post("/volumes", `{"volume":{"size":1,"metadata":{"":"x"}}}`),
		post("/volumes", `{"volume":{"size":1,"metadata":{"k":1}}}`),
		post("/volumes", `{"volume":{"size":1,"source_volid":"nope"}}`),
		post("/volumes", `{"volume":{"size":1,"imageRef":"11111111-2222-4333-8444-555555555555"}}`),
		post("/volumes", `{"volume":[]}`),
		post("/volumes", `{"volume":null}`),
		post("/volumes", `{"x":`),
		at("3.53", post("/volumes", `{"volume":{"size":1},"more":1}`)),
		at("3.53", post("/volumes", `{"volume":{}}`)),

		// Lists: pages, order, filters.
		get("/volumes"),
		get("/volumes/detail"),
		get("/volumes/detail", "3.70"),
		get("/volumes/detail", "3.48"),
		get("/volumes/detail?limit=2"),
		get("/volumes/detail?limit=2&marker={b}"),
		get("/volumes/detail?limit=0"),
		get("/volumes?limit=2&offset=1"),
		get("/volumes?offset=-1"),
		get("/volumes?limit=x"),
		get("/volumes?offset=x"),
		get("/volumes?marker=nope"),
		get("/volumes?limit=1&sort=name:desc,size"),
		get("/volumes?sort_key=size&sort_dir=asc"),
		get("/volumes?sort_key=size&sort_dir=up"),
		get("/volumes?sort=name&sort_key=size"),
		get("/volumes?sort=created_at:asc"),
		get("/volumes?sort=status,name:asc"),
		get("/volumes?sort=bogus"),
		get("/volumes?sort=id:asc:desc"),
		get("/volumes?sort="),
		get("/volumes?name=a"),
		get("/volumes?name=nope"),
		get("/volumes?status=available"),
		get("/volumes?status=Available"),
		get("/volumes?status=in-use"),
		get("/volumes?size=1"),
		get("/volumes?bootable=true"),
		get("/volumes?bootable=True", "3.2"),
		get("/volumes?bootable=false", "3.2"),
		get("/volumes?bootable=maybe", "3.2"),
		get("/volumes?bootable=maybe"),
		get("/volumes?availability_zone=nova"),
		get("/volumes?availability_zone=nope"),
		get("/volumes?metadata={'k':'v'}"),
		get(`/volumes?metadata={"k":"w"}`),
		get(`/volumes?metadata={"k":"v","n":"1"}`),
		get(`/volumes?metadata=nonsense`),
		get("/volumes?bogus=1"),
		get("/volumes?bogus=1", "3.31"),
		get("/volumes?name~=a", "3.34"),
		get("/volumes?name~=a", "3.33"),
		get("/volumes?status~=avail", "3.34"),
		get("/volumes?created_at=gt:2020-01-01T00:00:00", "3.60"),
		get("/volumes?created_at=lt:2020-01-01T00:00:00", "3.60"),
		get("/volumes?created_at=gt:nonsense", "3.60"),
		get("/volumes?created_at=xx:2020-01-01T00:00:00", "3.60"),
		get("/volumes?created_at=gte:2020-01-01,lte:2100-01-01", "3.60"),
		get("/volumes?updated_at=neq:2020-01-01T00:00:00", "3.60"),
		get("/volumes?consumes_quota=true", "3.65"),
		get("/volumes?consumes_quota=false", "3.65"),
		get("/volumes?consumes_quota=x", "3.65"),
		get("/volumes?group_id=11111111-2222-4333-8444-555555555555", "3.10"),
		get("/volumes?with_count=true", "3.45"),
		get("/volumes?with_count=true&limit=1", "3.45"),
		get("/volumes/detail?with_count=True&name=a", "3.45"),
		get("/volumes?with_count=x", "3.45"),
		get("/volumes?with_count=true", "3.44"),
		get("/volumes?all_tenants=1"),
		get("/volumes?all_tenants=x"),
		get("/volumes?all_tenants=1&project_id={project}"),
		get("/volumes?host=nope"),
		get("/volumes?migration_status=none"),
		get("/volumes?glance_metadata={'image_name':'ubuntu12'}", "3.4"),
		get("/volumes?glance_metadata={'image_name':'nope'}", "3.4"),
		get("/volumes/summary", "3.12"),
		get("/volumes/summary", "3.36"),
		get("/volumes/summary?all_tenants=0", "3.36"),
		get("/volumes/{a}", "3.11"), get("/volumes/{a}", "3.13"), get("/volumes/{a}", "3.21"), get("/volumes/{a}", "3.61"),
		get("/volumes/{c}"), get("/volumes/{c}", "3.63"), get("/volumes/{c}", "3.65"), get("/volumes/{c}", "3.69"),
		get("/volumes/"), get("/volumes/{a}/nope"), get("/nope"), get("/volumes/{a}.json"), get("/volumes.json"),

		// Changing.
		put("/volumes/{a}", `{"volume":{"display_name":"a1","display_description":"d"}}`),
		put("/volumes/{a}", `{"volume":{"name":"a2","display_name":"a3"}}`),
		put("/volumes/{a}", `{"volume":{"name":null,"description":null}}`),
		put("/volumes/{a}", `{"volume":{"name":"  a  ","bogus":1}}`),
		at("3.53", put("/volumes/{a}", `{"volume":{"bogus":1}}`)),
		at("3.53", put("/volumes/{a}", `{"volume":{"name":"a","metadata":{"k":"v2"}}}`)),
		put("/volumes/{a}", `{"volume":"x"}`),
		put("/volumes/{a}", `{}`),
		put("/volumes/nope", `{"volume":{"name":"x"}}`),
		get("/volumes/{a}"),

		// Metadata.
		get("/volumes/{a}/metadata"), get("/volumes/nope/metadata"),
		post("/volumes/{a}/metadata", `{"metadata":{"x":"y"}}`),
		post("/volumes/{a}/metadata", `{"metadata":{"x":1}}`),
		post("/volumes/{a}/metadata", `{"metadata":{"":"y"}}`),
		post("/volumes/{a}/metadata", `{"metadata":null}`),
		post("/volumes/{a}/metadata", `{"meta":{}}`),
		put("/volumes/{a}/metadata", `{"metadata":{"p":"q"}}`),
		put("/volumes/{a}/metadata", `{"metadata":{}}`),
		put("/volumes/{a}/metadata/p", `{"meta":{"p":"r"}}`),
		put("/volumes/{a}/metadata/p", `{"meta":{"p":"r","s":"t"}}`),
		put("/volumes/{a}/metadata/p", `{"meta":{}}`),
		put("/volumes/{a}/metadata/p", `{"metadata":{"p":"r"}}`),
		get("/volumes/{a}/metadata/p"), get("/volumes/{a}/metadata/nope"),
		del("/volumes/{a}/metadata/p"), del("/volumes/{a}/metadata/p"),
		get("/volumes/{a}/metadata", "3.15"),

		// Metadata of the image.
		act("c", `{"os-show_image_metadata":{}}`),
		act("a", `{"os-show_image_metadata":{}}`),
		act("a", `{"os-set_image_metadata":{"metadata":{"os_type":"linux"}}}`),
		act("a", `{"os-set_image_metadata":{"metadata":{}}}`),
		act("a", `{"os-set_image_metadata":{"metadata":{"x":1}}}`),
		act("a", `{"os-set_image_metadata":{}}`),
		act("a", `{"os-unset_image_metadata":{"key":"os_type"}}`),
		act("a", `{"os-unset_image_metadata":{"key":"os_type"}}`),
		act("a", `{"os-unset_image_metadata":{}}`),
		act("a", `{"os-unset_image_metadata":{"key":""}}`),
		get("/volumes/{a}"),

		// Actions.
		act("a", `{"os-set_bootable":{"bootable":true}}`), act("a", `{"os-set_bootable":{"bootable":"x"}}`), act("a", `{"os-set_bootable":{}}`),
		get("/volumes/{a}"),
		act("a", `{"os-set_bootable":{"bootable":false}}`),
		act("a", `{"os-update_readonly_flag":{"readonly":"true"}}`), act("a", `{"os-update_readonly_flag":{}}`), act("a", `{"os-update_readonly_flag":{"readonly":"x"}}`),
		get("/volumes/{a}"),
		act("a", `{"os-update_readonly_flag":{"readonly":false}}`),
		act("a", `{"os-reserve":{}}`), act("a", `{"os-reserve":{}}`), get("/volumes/{a}"),
		act("a", `{"os-update_readonly_flag":{"readonly":true}}`),
		del("/volumes/{a}"),
		act("a", `{"os-unreserve":{}}`), act("a", `{"os-unreserve":{}}`),
		act("a", `{"os-begin_detaching":{}}`), act("a", `{"os-roll_detaching":{}}`),
		act("a", `{"os-detach":{}}`),
		act("a", `{"os-attach":{"instance_uuid":"nope","mountpoint":"/dev/vdb"}}`),
		act("a", `{"os-attach":{"mountpoint":"/dev/vdb"}}`),
		act("a", `{"os-attach":{"instance_uuid":"11111111-2222-4333-8444-555555555555","host_name":"h","mountpoint":"/dev/vdb"}}`),
		act("a", `{"os-attach":{"instance_uuid":"11111111-2222-4333-8444-555555555555","mountpoint":"/dev/vdb","mode":"xx"}}`),
		act("a", `{"os-attach":{"instance_uuid":"11111111-2222-4333-8444-555555555555"}}`),
		act("a", `{"os-reset_status":{"status":"error"}}`), get("/volumes/{a}"),
		act("a", `{"os-reserve":{}}`),
		act("a", `{"os-reset_status":{"status":"available","migration_status":"none"}}`),
		act("a", `{"os-reset_status":{"status":"deleting"}}`),
		act("a", `{"os-reset_status":{"attach_status":"bogus"}}`),
		act("a", `{"os-reset_status":{"migration_status":"bogus"}}`),
		act("a", `{"os-reset_status":{"status":"maintenance"}}`), get("/volumes/{a}"),
		act("a", `{"os-reset_status":{"status":"Available"}}`), get("/volumes/{a}"),
		act("a", `{}`), act("a", `{"a":{},"b":{}}`), act("a", `[]`), act("nope", `{"os-reserve":{}}`),
		act("a", `{"os-initialize_connection":{}}`),
		act("a", `{"os-terminate_connection":{}}`),

		// Operators' views, but for hosts that are each service's own.
		get("/os-availability-zone"), get("/os-services?binary=nope"), get("/os-services?host=nope"), get("/os-hosts?zone=nope"),
		get("/os-hosts/nope"), put("/os-hosts/nope", `{"status":"enable"}`), get("/capabilities/nope"),
		get("/scheduler-stats/get_pools?detail=x"),
		put("/os-services/enable", `{"binary":"cinder-volume"}`), put("/os-services/enable", `{"host":"nope","binary":"cinder-volume"}`),
		put("/os-services/disable", `{"host":"nope"}`), put("/os-services/disable-log-reason", `{"host":"nope","binary":"cinder-volume"}`),
		put("/os-services/freeze", `{"host":"nope"}`), put("/os-services/freeze", `{}`), put("/os-services/nope", `{"host":"nope"}`),
		get("/resource_filters", "3.33"), get("/resource_filters?resource=volume", "3.33"), get("/resource_filters?resource=nope", "3.33"),
		get("/resource_filters", "3.32"),
		get("/extensions/os-hosts"), get("/extensions/nope"), get("/clusters", "3.7"), get("/clusters", "3.6"),
		get("/volumes", "3.71"), get("/volumes", "2.0"), get("/volumes", "3.x"), get("/volumes", "latest"),

		// The end.
		del("/volumes/nope"),
		at("3.23", del("/volumes/{b}?force=x")),
		moved(del("/volumes/{b}")), del("/volumes/{b}"), get("/volumes/{b}"),
		moved(act("c", `{"os-force_delete":{}}`)), get("/volumes/{c}"),
		moved(del("/volumes/{a}?cascade=True")),
		get("/volumes/detail"),
		del("/types/{type}"),
	}
}
