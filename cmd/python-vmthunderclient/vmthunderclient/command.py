"""openstack volume create, the stock command, and --count."""

import logging

from osc_lib.cli import format_columns
from osc_lib import exceptions
from osc_lib import utils
import stevedore

from vmthunderclient import crew
from vmthunderclient import making
from vmthunderclient import progress as progress_line
from vmthunderclient import wanted

try:  # openstackclient 6.3 and later have one for version 3
    from openstackclient.volume.v3 import volume as stock
    stock.CreateVolume
except (ImportError, AttributeError):
    from openstackclient.volume.v2 import volume as stock

LOG = logging.getLogger(__name__)

# Columns of the list, by their key in the API; the first four if none are asked for.
COLUMNS = {
    'ID': 'id', 'Name': 'name', 'Status': 'status', 'Size': 'size', 'Type': 'volume_type',
    'Bootable': 'bootable', 'Availability Zone': 'availability_zone',
    'Description': 'description', 'Created At': 'created_at', 'Properties': 'metadata',
}
DEFAULT_COLUMNS = 4


class Formatters:
    """The formatters of one object, and beside them those that only lists have."""

    def __init__(self, show):
        self.show = show
        self.list = stevedore.ExtensionManager('cliff.formatter.list', invoke_on_load=True)
        self.list_only = sorted(set(self.list.names()) - set(show.names()))

    def names(self):
        return self.show.names() + self.list_only

    def __iter__(self):
        yield from self.show
        for name in self.list_only:
            yield self.list[name]

    def __getitem__(self, name):
        return self.list[name] if name in self.list_only else self.show[name]


def positive(text):
    n = int(text)
    if n < 1:
        raise ValueError(text)
    return n


positive.__name__ = 'count'  # argparse: invalid count value


class CreateVolume(stock.CreateVolume):
    """Without --count it is the stock command: its options, requests and output."""

    _status = 0

    def _load_formatter_plugins(self):
        return Formatters(super()._load_formatter_plugins())

    def get_parser(self, prog_name):
        parser = super().get_parser(prog_name)
        for action in parser._actions:
            if action.dest == 'name' and not action.option_strings:
                action.nargs, action.required = '?', False
                action.help = 'Volume name; with --count <name>-1 to <name>-N, or <name> ' \
                    'with the number in place of {}'
            elif action.dest == 'size':
                action.help = 'Volume size in GB (with --image default is the least that ' \
                    'holds the image; required unless --image, --snapshot or --source is specified)'
        parser.add_argument(
            '--count', metavar='<N>', type=positive,
            help='Make N volumes, all or none, and print a list of them')
        parser.add_argument(
            '--partial', action='store_true',
            help='With --count: make as many as the quota allows; exit status 3 if not all')
        parser.add_argument(
            '--wait', action='store_true',
            help='Wait until the volumes are available; exit status 1 if one is not')
        self._parser = parser
        return parser

    def run(self, parsed_args):
        self._check(parsed_args)
        self._progress = progress_line.Progress(self.app.stderr)
        status = super().run(parsed_args)
        return self._status or status

    def _check(self, args):
        """What argparse would refuse if it knew what depends on --count."""
        plugins = self._formatter_plugins
        if args.count is None:
            choices, what = plugins.show.names(), ''
            if args.partial:
                self._parser.error('argument --partial: needs --count')
        else:
            choices, what = plugins.list.names(), ' with --count'
        if args.formatter not in choices:
            self._parser.error('argument -f/--format: invalid choice%s: %r (choose from %s)' % (
                what, args.formatter, ', '.join(map(repr, sorted(choices)))))
        if args.count is None:
            return
        known = {c.lower(): c for c in COLUMNS}
        for i, c in enumerate(args.columns):
            if c.lower() not in known:
                self._parser.error('argument -c/--column: invalid choice with --count: %r (choose from %s)' % (
                    c, ', '.join(map(repr, COLUMNS))))
            args.columns[i] = known[c.lower()]

    def take_action(self, parsed_args):
        if parsed_args.count is not None:
            return self._many(parsed_args)
        if parsed_args.size is None and parsed_args.image:
            parsed_args.size = wanted.image_size(self._image(parsed_args.image))
        columns, data = super().take_action(parsed_args)
        if parsed_args.wait:
            columns, data = self._wait_one(columns, data)
        return columns, data

    def produce_output(self, parsed_args, column_names, data):
        if parsed_args.count is None:
            return super().produce_output(parsed_args, column_names, data)
        if not data:  # interrupted, and undone
            return 0
        columns, selector = self._generate_columns_and_selector(parsed_args, column_names)
        if selector:
            data = [list(self._compress_iterable(row, selector)) for row in data]
        self._formatter_plugins.list[parsed_args.formatter].obj.emit_list(
            columns, data, self.app.stdout, parsed_args)
        return 0

    def _image(self, ref):
        return self.app.client_manager.image.find_image(ref, ignore_missing=False)

    def _many(self, args):
        client = self.app.client_manager.volume
        kwargs, image = self._arguments(args)
        if making.knows_batches(client):
            make = making.batch  # it knows the size of the image
        else:
            make = making.singles
            if image is not None and kwargs['size'] is None:
                kwargs['size'] = wanted.image_size(image)
        made = make(client, kwargs, args.name, args.count, args.partial, self._progress)
        self._status = made.status
        volumes = made.volumes
        if volumes:
            try:
                self._flags(client, args, volumes)
                if args.wait:
                    volumes = self._wait(client, volumes)
            except KeyboardInterrupt:
                self._stay(volumes)
        names = list(COLUMNS)[:None if args.columns else DEFAULT_COLUMNS]
        return names, [[self._value(v, n) for n in names] for v in volumes]

    @staticmethod
    def _value(volume, column):
        value = volume.get(COLUMNS[column])
        return format_columns.DictColumn(value) if column == 'Properties' else value

    def _arguments(self, args):
        """What the stock command passes to volumes.create, but for the name."""
        client = self.app.client_manager.volume
        if (args.snapshot or args.source or args.image) is None and args.size is None:
            raise exceptions.CommandError(
                '--size is a required option if image, snapshot or source volume is not specified.')
        source = group = snapshot = image = None
        size = args.size
        if args.source:
            source = utils.find_resource(client.volumes, args.source).id
        if args.consistency_group:
            group = utils.find_resource(client.consistencygroups, args.consistency_group).id
        if args.image:
            image = self._image(args.image)
        if args.snapshot:
            found = utils.find_resource(client.volume_snapshots, args.snapshot)
            snapshot, size = found.id, max(size or 0, found.size)
        return dict(
            size=size, snapshot_id=snapshot, description=args.description, volume_type=args.type,
            availability_zone=args.availability_zone, metadata=args.property,
            imageRef=image.id if image else None, source_volid=source, consistencygroup_id=group,
            scheduler_hints=args.hint), image

    def _flags(self, client, args, volumes):
        """--bootable and --read-only are requests of their own, as in the stock command."""
        calls = []
        for v in volumes:
            if args.bootable or args.non_bootable:
                calls.append(lambda i=v['id']: client.volumes.set_bootable(i, args.bootable))
            if args.read_only or args.read_write:
                calls.append(lambda i=v['id']: client.volumes.update_readonly_flag(i, args.read_only))
        ends = crew.run(calls, lambda done: self._progress.show('Set %d of %d properties' % (done, len(calls))))
        for _, error in ends:
            if error is not None:
                LOG.error('Failed to set a property of a volume: %s', error)
        self._progress.clear()

    def _wait(self, client, volumes):
        try:
            volumes = making.wait(client, volumes, self._progress)
        except Exception as e:
            self._progress.clear()
            LOG.error('%d volumes were made, but how they are is not known: %s', len(volumes), e)
            self._status = self._status or making.NONE_MADE
            return volumes
        bad = [v for v in volumes if v['status'] not in ('available', 'in-use', 'reserved', 'attaching')]
        if bad:
            LOG.error('%d of %d volumes are not available: %s', len(bad), len(volumes), making.why(bad[0]))
            self._status = making.NONE_MADE
        return volumes

    def _stay(self, volumes):
        """An interrupt after they were made: they are there, and go on."""
        self._progress.clear()
        LOG.warning('Interrupted; %d volumes were made and stay.', len(volumes))
        self._status = making.INTERRUPTED

    def _wait_one(self, columns, data):
        """The stock command's output, as it is when the volume is available."""
        shown = dict(zip(columns, data))
        now = {'id': shown['id'], 'status': shown['status']}
        try:
            now = self._wait(self.app.client_manager.volume, [now])[0]
        except KeyboardInterrupt:
            self._stay([now])
        for key in ('status', 'updated_at', 'bootable'):
            if key in shown and key in now:
                shown[key] = now[key]
        return zip(*sorted(shown.items()))
