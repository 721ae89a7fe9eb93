"""A small cloud for tests: Keystone, Glance and Cinder, as far as the commands go.

Bodies are those of Cinder 21 (Zed) and Glance 25, ids and times made even, so that two runs
can be compared. With batches it lists the extension vmthunder and has POST /volumes/batch.
"""

import http.server
import json
import re
import threading
import time

PROJECT = 'a' * 32
IMAGE = '11111111-1111-1111-1111-111111111111'
ODD = '22222222-2222-2222-2222-222222222222'
TIME = '2026-01-01T00:00:00.000000'


def image(i, name, fmt, size, virtual, min_disk=0):
    return {'id': i, 'name': name, 'status': 'active', 'disk_format': fmt, 'container_format': 'bare',
            'size': size, 'virtual_size': virtual, 'min_disk': min_disk, 'min_ram': 0, 'visibility': 'public',
            'protected': False, 'owner': PROJECT, 'tags': [], 'created_at': TIME, 'updated_at': TIME,
            'checksum': 'x', 'os_hash_algo': 'sha512', 'os_hash_value': 'x', 'os_hidden': False,
            'self': '/v2/images/' + i, 'file': '/v2/images/' + i + '/file', 'schema': '/v2/schemas/image'}


def path_is_volumes(path):
    return '/volumes' in path


class Cloud:
    def __init__(self, batches=False, quota=1000):
        self.batches, self.quota = batches, quota
        self.lock = threading.RLock()
        self.volumes, self.gone, self.log, self.bodies = {}, [], [], []
        self.images = [image(IMAGE, 'ubuntu12', 'raw', 3 << 30, 3 << 30), image(ODD, 'odd', 'qcow2', 1 << 20, None)]
        self.most = self.now = 0  # requests to make a volume at once
        self.creating = 0.0       # seconds a volume stays creating
        self.pace = 0.0           # seconds a request to make takes
        self.fail_status = 'available'
        self.hold = threading.Event()  # a batch waits for it before it answers
        self.hold.set()
        self.arrived = threading.Event()
        self.hang_up = False      # volumes are made and nobody is told
        self.fails = None         # (from which request on, status)
        self.n = 0
        cloud = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = 'HTTP/1.1'
            disable_nagle_algorithm = True

            def log_message(self, *_):
                pass

            def answer(self):
                size = int(self.headers.get('Content-Length') or 0)
                body = json.loads(self.rfile.read(size)) if size else None
                status, out, headers = cloud.answer(self.command, self.path, body)
                if cloud.hang_up and self.command == 'POST' and path_is_volumes(self.path):
                    self.close_connection = True
                    return
                raw = b'' if out is None else json.dumps(out).encode()
                try:
                    self.send_response(status)
                    for k, v in headers.items():
                        self.send_header(k, v)
                    self.send_header('Content-Type', 'application/json')
                    self.send_header('Content-Length', str(len(raw)))
                    self.end_headers()
                    self.wfile.write(raw)
                except (BrokenPipeError, ConnectionResetError):
                    pass  # the command was interrupted

            do_GET = do_POST = do_DELETE = do_PUT = answer

        self.server = http.server.ThreadingHTTPServer(('127.0.0.1', 0), Handler)
        self.server.daemon_threads = True
        self.url = 'http://127.0.0.1:%d' % self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self):
        self.hold.set()
        self.server.shutdown()
        self.server.server_close()

    def env(self):
        return {'OS_AUTH_URL': self.url + '/identity/v3', 'OS_USERNAME': 'demo', 'OS_PASSWORD': 'secret',
                'OS_PROJECT_NAME': 'demo', 'OS_USER_DOMAIN_NAME': 'Default', 'OS_PROJECT_DOMAIN_NAME': 'Default',
                'OS_IDENTITY_API_VERSION': '3', 'OS_REGION_NAME': 'RegionOne', 'OS_VOLUME_API_VERSION': '3'}

    def answer(self, method, path, body):
        path = path.split('?')[0]
        if path.startswith('/identity'):
            return self.identity(method, path)
        with self.lock:
            self.log.append('%s %s' % (method, path.replace(PROJECT, 'P')))
            if body is not None:
                self.bodies.append(body)
        if path.startswith('/image'):
            return self.glance(path)
        path = path.removeprefix('/volume/v3/' + PROJECT)
        if (method, path) == ('POST', '/volumes'):
            return self.create(body)
        if (method, path) == ('POST', '/volumes/batch') and self.batches:
            return self.batch(body)
        with self.lock:
            return self.cinder(method, path, body)

    def identity(self, method, path):
        if path.endswith('/auth/tokens'):
            def service(kind, name, url):
                return {'type': kind, 'name': name, 'id': name, 'endpoints': [
                    {'id': name, 'interface': i, 'region': 'RegionOne', 'region_id': 'RegionOne', 'url': url}
                    for i in ('public', 'internal', 'admin')]}
            volume = self.url + '/volume/v3/' + PROJECT
            token = {'methods': ['password'], 'expires_at': '2099-01-01T00:00:00.000000Z', 'issued_at': TIME + 'Z',
                     'audit_ids': ['x'], 'roles': [{'id': 'r', 'name': 'member'}],
                     'user': {'id': 'u', 'name': 'demo', 'domain': {'id': 'default', 'name': 'Default'}},
                     'project': {'id': PROJECT, 'name': 'demo', 'domain': {'id': 'default', 'name': 'Default'}},
                     'catalog': [service('volumev3', 'cinderv3', volume), service('block-storage', 'cinder', volume),
                                 service('image', 'glance', self.url + '/image'),
                                 service('identity', 'keystone', self.url + '/identity')]}
            return 201, {'token': token}, {'X-Subject-Token': 'token'}
        version = {'id': 'v3.14', 'status': 'stable', 'updated': TIME, 'links': [
            {'rel': 'self', 'href': self.url + '/identity/v3/'}], 'media-types': []}
        return 200, {'version': version}, {}

    def glance(self, path):
        if path in ('/image', '/image/', '/image/versions'):
            return 300, {'versions': [{'id': 'v2.15', 'status': 'CURRENT', 'links': [
                {'rel': 'self', 'href': self.url + '/image/v2/'}]}]}, {}
        if path == '/image/v2/images':
            return 200, {'images': self.images, 'first': '/v2/images', 'schema': '/v2/schemas/images'}, {}
        for i in self.images:
            if path == '/image/v2/images/' + i['id']:
                return 200, i, {}
        return 404, {'message': 'No image found', 'code': '404 Not Found', 'title': 'Not Found'}, {}

    def create(self, body):
        with self.lock:
            self.now += 1
            self.most = max(self.most, self.now)
            self.arrived.set()
        try:
            time.sleep(self.pace)
            with self.lock:
                self.n += 1
                if self.fails and self.n >= self.fails[0]:
                    return self.fails[1], {'computeFault': {'code': self.fails[1], 'message': 'It broke.'}}, {}
                if len(self.volumes) >= self.quota:
                    return self.over()
                return 202, {'volume': self.show(self.add(body['volume'], body['volume'].get('name')))}, {}
        finally:
            with self.lock:
                self.now -= 1

    def over(self):
        return 413, {'overLimit': {'code': 413, 'message': 'VolumeLimitExceeded: Maximum number of volumes allowed '
                                   '(%d) exceeded for quota \'volumes\'.' % self.quota}}, {'Retry-After': '0'}

    def batch(self, body):
        self.arrived.set()
        with self.lock:
            n, short = body['count'], None
            if self.fails:
                return self.fails[1], {'badRequest': {'code': self.fails[1], 'message': 'It broke.'}}, {}
            room = self.quota - len(self.volumes)
            if n > room:
                refusal = self.over()
                if not body.get('partial') or room == 0:
                    return refusal
                n, short = room, {'count': n - room, 'message': refusal[1]['overLimit']['message']}
            want = dict(body['volume'])
            want.setdefault('size', 3)
            rows = [self.add(want, (body.get('name_template') or '').replace('{}', str(i + 1)) or None) for i in range(n)]
            out = {'volumes': [self.show(v) for v in rows]}
            if short:
                out['short'] = short
        self.hold.wait()
        return 202, out, {}

    def add(self, want, name):
        i = 'dddddddd-0000-0000-0000-%012d' % (len(self.volumes) + len(self.gone) + 1)
        self.volumes[i] = dict(want, id=i, name=name, born=time.monotonic())
        return self.volumes[i]

    def show(self, v, now='creating'):
        return {'id': v['id'], 'name': v['name'], 'status': now, 'size': v['size'], 'description': v.get('description'),
                'availability_zone': v.get('availability_zone') or 'nova', 'created_at': TIME, 'updated_at': None,
                'volume_type': v.get('volume_type') or '__DEFAULT__', 'snapshot_id': None, 'source_volid': None,
                'metadata': v.get('metadata') or {}, 'links': [], 'user_id': 'u', 'bootable': 'false',
                'encrypted': False, 'replication_status': None, 'consistencygroup_id': None, 'multiattach': False,
                'attachments': [], 'migration_status': None}

    def status(self, v):
        return 'creating' if time.monotonic() - v['born'] < self.creating else self.fail_status

    def cinder(self, method, path, body):
        if path == '/extensions':
            names = ['os-quota-sets', 'OS-SCH-HNT'] + ['vmthunder'] * self.batches
            return 200, {'extensions': [{'alias': n, 'name': n, 'description': n, 'links': [], 'updated': TIME}
                                        for n in names]}, {}
        m = re.fullmatch('/volumes/([^/]+)(/action)?', path)
        v = m and self.volumes.get(m[1])
        if not v:
            return 404, {'itemNotFound': {'code': 404, 'message': 'Volume %s could not be found.' % (m and m[1])}}, {}
        if m[2]:
            return 200, None, {}
        if method == 'GET':
            out = self.show(v, self.status(v))
            if out['status'] == 'error' and self.batches:
                out['metadata'] = {'vmthunder:error': 'the image is broken'}
            return 200, {'volume': out}, {}
        if self.status(v) == 'creating':
            return 400, {'badRequest': {'code': 400, 'message': 'Invalid volume: Volume status must be available or '
                                        'error or error_restoring or error_extending or error_managing and must not '
                                        'be migrating, attached, belong to a group, have snapshots or be disassociated '
                                        'from snapshots after volume transfer.'}}, {}
        self.gone.append(self.volumes.pop(v['id'])['id'])
        return 202, None, {}
