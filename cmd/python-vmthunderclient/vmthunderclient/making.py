"""Making volumes: in one request where the server can, else one by one, undone if not all."""

import logging
import time

from cinderclient import exceptions as cinder_exceptions
from keystoneauth1 import exceptions as ks_exceptions
from osc_lib import exceptions

from vmthunderclient import crew
from vmthunderclient import wanted

LOG = logging.getLogger(__name__)

# Exit statuses, beside 0: all were made, and 2: the command line is wrong.
NONE_MADE = 1
SOME_MADE = 3
INTERRUPTED = 130

# Seconds that an undo tries to delete a volume that is not being made and is refused.
UNDO_WAIT = 5
POLL = 1.0


class Made:
    """What has become of it: volumes as the API shows them, in order; an exit status."""

    def __init__(self, volumes, status=0):
        self.volumes = volumes
        self.status = status


def knows_batches(client):
    """Tell by its list of extensions whether the server is VMThunder."""
    try:
        _, body = client.client.get('/extensions')
    except cinder_exceptions.NotFound:
        return False
    return any(e.get('alias') == 'vmthunder' for e in body.get('extensions', []))


def lost(error):
    """Tell whether a request may have done its work though there is no answer."""
    if isinstance(error, (ks_exceptions.ConnectTimeout, ks_exceptions.SSLError)):
        return False
    if isinstance(error, ks_exceptions.ConnectionError):
        # Of one that was never sent the library says so, in words only.
        return 'Failed to establish a new connection' not in str(error)
    return getattr(error, 'code', None) in (502, 504)


def batch(client, kwargs, name, count, partial, progress):
    """All in one request, which is one transaction: the server makes all or none, or
    with partial as many as the quota has room for.

    Who interrupts it does not know what the server has done. So its answer is waited
    for, and what it has made is deleted.
    """
    body = wanted.batch_body(kwargs, name, count, partial)
    request = crew.Crew([lambda: client.client.post('/volumes/batch', body=body)])

    def answer():
        for _ in request.ends():
            progress.show('Making %d volumes' % count)
        value, error = request.ended.get(0, (None, exceptions.CommandError('nothing was sent')))
        if error is not None:
            raise error
        return value[1]

    try:
        request.start()
        made = answer()
    except KeyboardInterrupt:
        try:
            progress.clear()
            LOG.warning('Interrupted; what the server has made will be deleted. '
                        'Interrupt again to leave at once.')
            made = answer()
        except KeyboardInterrupt:
            LOG.error('A request for %d volumes was under way; all were made or none.', count)
            return Made([], INTERRUPTED)
        except Exception as e:
            if lost(e):
                LOG.error('The answer was lost, so all %d volumes were made or none: %s', count, e)
            else:
                LOG.error('No volume was made: %s', e)
            return Made([], INTERRUPTED)
        undo(client, made['volumes'], progress)
        return Made([], INTERRUPTED)
    except Exception as e:
        progress.clear()
        if lost(e):
            raise exceptions.CommandError(
                'The answer was lost, so all %d volumes were made or none: %s' % (count, e))
        more = ''
        if getattr(e, 'code', None) == 413 and not partial:
            more = ' With --partial as many as fit are made.'
        raise exceptions.CommandError('No volume was made: %s%s' % (e, more))
    progress.clear()
    short = made.get('short')
    if not short:
        return Made(made['volumes'])
    LOG.warning('%d of %d volumes were made, the other %d were not: %s',
                len(made['volumes']), count, short['count'], short['message'])
    return Made(made['volumes'], SOME_MADE)


def singles(client, kwargs, name, count, partial, progress):
    """One request for each, several at once, for a server without batches.

    The first that fails ends it; what was made before is deleted, or with partial kept.
    """
    requests = crew.Crew([
        lambda n=n: client.volumes.create(name=n, **kwargs)._info for n in wanted.names(name, count)])

    def gather():
        for i in requests.ends():
            progress.show('Made %d of %d volumes' % (len(requests.ended), count))
            if i is not crew.TICK and requests.ended[i][1] is not None:
                requests.stop()

    try:
        requests.start()
        gather()
    except KeyboardInterrupt:
        requests.stop()
        try:
            progress.clear()
            LOG.warning('Interrupted; %d volumes that were made will be deleted. '
                        'Interrupt again to leave at once.', len(requests.values()))
            gather()
        except KeyboardInterrupt:
            _left([v['id'] for v in requests.values()], 'interrupted again')
            return Made([], INTERRUPTED)
        undo(client, requests.values(), progress)
        return Made([], INTERRUPTED)
    progress.clear()
    volumes = requests.values()
    first = next((e for _, (_, e) in sorted(requests.ended.items()) if e is not None), None)
    if first is None:
        return Made(volumes)
    if partial and volumes:
        LOG.warning('%d of %d volumes were made, then: %s', len(volumes), count, first)
        return Made(volumes, SOME_MADE)
    if not undo(client, volumes, progress):
        raise exceptions.CommandError('Not all volumes could be made: %s' % first)
    more = ''
    if getattr(first, 'code', None) == 413 and not partial:
        more = ' With --partial as many as fit are made.'
    raise exceptions.CommandError('No volume was made: %s%s' % (first, more))


def undo(client, volumes, progress):
    """Delete volumes; True if all are on their way out. Those that are not are named."""
    ids = [v['id'] for v in volumes]
    deletes = crew.Crew([lambda v=v: _delete(client, v) for v in ids])
    why = None
    try:
        deletes.start()
        for _ in deletes.ends():
            progress.show('Deleted %d of %d volumes; those that are being made can go after that' % (
                len(deletes.ended), len(ids)))
    except KeyboardInterrupt:
        deletes.stop()
        why = 'interrupted'
    progress.clear()
    left = {v: deletes.ended.get(i, (None, why))[1] for i, v in enumerate(ids)}
    left = {v: e for v, e in left.items() if e is not None}
    if left:
        _left(left, next(iter(left.values())))
    return not left


def _left(ids, why):
    if ids:
        LOG.error('%d volumes could not be deleted (%s): %s', len(ids), why, ' '.join(ids))


def _delete(client, volume):
    """Delete one. One that is being made can't be deleted until it has been, and that
    takes as long as its image takes to come.
    """
    end = time.monotonic() + UNDO_WAIT
    while True:
        try:
            return client.volumes.delete(volume)
        except cinder_exceptions.NotFound:
            return None
        except cinder_exceptions.ClientException as e:
            if e.code not in (400, 409):
                raise
            refused = e
        try:
            if pending(client.volumes.get(volume)._info):
                end = time.monotonic() + UNDO_WAIT
        except cinder_exceptions.NotFound:
            return None
        if time.monotonic() > end:
            raise refused
        time.sleep(POLL)


def pending(info):
    """Tell whether a volume is still being made."""
    return info['status'] in ('creating', 'downloading')


def wait(client, volumes, progress):
    """Wait until no volume is being made any more; returns them as they are then.

    Volumes of one image get available together, so only the first of those that are
    waited for is looked at, until it is done.
    """
    shown = {v['id']: v for v in volumes}
    todo = [v['id'] for v in volumes]

    def look(ids):
        for info, error in crew.run([lambda v=v: client.volumes.get(v)._info for v in ids]):
            if error is not None:
                raise error
            shown[info['id']] = info

    while todo:
        look(todo[:1])
        if pending(shown[todo[0]]):
            doing = shown[todo[0]].get('metadata', {}).get('vmthunder:import')
            progress.show('%d of %d volumes are available%s' % (
                len(volumes) - len(todo), len(volumes), ', image: ' + doing if doing else ''))
            time.sleep(POLL)
            continue
        look(todo[1:])
        todo = [v for v in todo if pending(shown[v])]
    progress.clear()
    return [shown[v['id']] for v in volumes]


def why(info):
    """Why a volume is in error, as far as the server says."""
    return info.get('metadata', {}).get('vmthunder:error') or 'status is ' + info['status']
