using Pandora.Engine.Projects;
using Pandora.Server.Hosting;

namespace Pandora.Server.Auth;

/// <summary>
/// The keys and projects of this server: those of the settings, those of the file <c>access.json</c>, and the key of the host's own command
/// line. The file is read again when it has changed: at once for a key that is not known, else within a second. While the file cannot be
/// read, what it said last stays in force. A key that is revoked or expires ends the requests that it began.
/// </summary>
internal sealed partial class Access : IHostedService, IDisposable
{
    /// <summary>Time between two checks of the file and of the expiry of keys.</summary>
    public static readonly TimeSpan Interval = TimeSpan.FromSeconds(1);

    /// <summary>Time between two writes of the keys' last uses.</summary>
    public static readonly TimeSpan UsesInterval = TimeSpan.FromSeconds(10);

    private readonly AccessStore _store;
    private readonly TimeProvider _time;
    private readonly SteadyClock _clock;
    private readonly ILogger _logger;
    private readonly IReadOnlyList<Key> _ofSettings;
    private readonly Key? _ofMetrics;
    private readonly HashSet<string> _expired;
    private readonly Lock _lock = new();
    private readonly CancellationTokenSource _closed = new();
    private ITimer? _timer;
    private Key? _ofCli;
    private string? _fingerprint;
    private State _state;
    private long _usesWrittenAt;
    private volatile bool _hasNewUses;

    /// <summary>Reads the settings and the file.</summary>
    /// <exception cref="AccessFileException">The file is damaged or cannot be read. Without it, the server does not know who may
    /// pass.</exception>
    public Access(AccessStore store, ServerOptions options, TimeProvider time, ILogger<Access> logger)
    {
        (_store, _time, _clock, _logger) = (store, time, new SteadyClock(time), logger);
        _ofSettings = [.. options.Keys.Select((k, i) => Key.Of(k, $"api-keys-{i + 1}", KeyRole.Admin))];
        _ofMetrics = options.MetricsKey.Length > 0 ? Key.Of(options.MetricsKey, "metrics-key", KeyRole.Metrics) : null;
        _fingerprint = store.Fingerprint;
        var uses = KeyUsesFile.Read(store);
        _expired = [.. uses.Expired];
        _usesWrittenAt = time.GetTimestamp();
        _state = StateOf(store.Read(), before: null);
        foreach (var key in _state.OfFile)
        {
            key.LastUse = uses.LastUses.TryGetValue(key.Entry.Id, out var last) ? last : null;
        }
    }

    /// <summary>Whether requests need no key. The key for metrics alone does not change that.</summary>
    public bool IsOpen => !_state.File.NeedsKey && _ofSettings.Count == 0;

    /// <summary>Decides whether a request needs no key. A server that is open looks for a first key each time: one question to the
    /// file system.</summary>
    /// <param name="isForMetrics">Whether the request is for <c>/metrics</c>.</param>
    public bool LetsIn(bool isForMetrics)
    {
        if (IsOpen && _fingerprint != _store.Fingerprint)
        {
            Reload();
        }

        return isForMetrics ? IsOpenForMetrics : IsOpen;
    }

    /// <summary>Cancelled when requests need a key that needed none before: those that began without one end.</summary>
    public CancellationToken Closed => _closed.Token;

    /// <summary>Whether <c>/metrics</c> needs no key.</summary>
    public bool IsOpenForMetrics => IsOpen && _ofMetrics is null;

    /// <summary>What is wrong with the file; null when it was read.</summary>
    public string? Problem { get; private set; }

    /// <summary>Finds a key. Neither the time that it takes nor the answer tells how much of a wrong key is right.</summary>
    public Key? Find(string key)
    {
        if (key.Length == 0)
        {
            return null;
        }

        var (hash, found) = Look(key);
        if (found is null && _fingerprint != _store.Fingerprint)
        {
            Reload();
            found = _state.Find(hash);
        }

        return found is null || Expires(found) ? null : found;
    }

    /// <summary>Whether a key is known already. Unlike <see cref="Find"/> it never reads the file, so that connections are accepted
    /// without a wait.</summary>
    public bool Knows(string key) => key.Length > 0 && Look(key).Key is { } found && !Expires(found);

    /// <summary>Finds a key by its id, for what a client began with the key; null when it was revoked or has expired.</summary>
    public Key? FindById(string id) => _state.FindById(id) is { } found && !Expires(found) ? found : null;

    /// <summary>Notes that a key was used.</summary>
    public void Used(Key key)
    {
        key.LastUse = _time.GetUtcNow();
        _hasNewUses = true;
    }

    /// <summary>Finds a project. A project that was removed has no bounds of its own: its sandboxes live on.</summary>
    public Project FindProject(string name) => _state.File.FindProject(name) ?? new Project(name);

    /// <summary>The projects, the default one among them.</summary>
    public IReadOnlyList<Project> Projects => _state.File.FindProject(Project.DefaultName) is { } usual
        ? [usual, .. _state.File.Projects.Where(p => p.Name != Project.DefaultName)]
        : _state.File.Projects;

    /// <summary>
    /// Makes the key of the host's command line if there is none, and begins to check the file. The engine must be open: it holds the lock
    /// of the data directory.
    /// </summary>
    /// <exception cref="AccessFileException">The key could not be read or written.</exception>
    public Task StartAsync(CancellationToken cancellationToken)
    {
        string? kept = null;
        try
        {
            kept = File.ReadAllText(_store.CliKeyPath).Trim();
        }
        catch (FileNotFoundException)
        {
            // The first start.
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw new AccessFileException($"{_store.CliKeyPath} cannot be read: {e.Message}", e);
        }

        if (kept is not { Length: >= 40 })
        {
            kept = Key.Create(isE2b: false);
            AccessStore.Write(_store.CliKeyPath, System.Text.Encoding.ASCII.GetBytes(kept + "\n"), mustLast: false);
        }

        _ofCli = Key.Of(kept, "cli", KeyRole.Admin);
        lock (_lock)
        {
            _state = StateOf(_state.File, _state);
        }

        _timer = _time.CreateTimer(_ => CheckSafely(), null, Interval, Interval);
        return Task.CompletedTask;
    }

    /// <inheritdoc/>
    public Task StopAsync(CancellationToken cancellationToken)
    {
        Dispose();
        return Task.CompletedTask;
    }

    // An exception in a timer's callback would end the server.
    private void CheckSafely()
    {
        try
        {
            Check();
        }
        catch (Exception e)
        {
            LogCheckFailed(e);
        }
    }

    /// <summary>Reads the file if it has changed, ends expired keys, and notes last uses.</summary>
    public void Check()
    {
        if (_fingerprint != _store.Fingerprint)
        {
            Reload();
        }

        foreach (var key in _state.OfFile)
        {
            Expires(key);
        }

        if (_hasNewUses && _time.GetElapsedTime(_usesWrittenAt) >= UsesInterval)
        {
            WriteUses();
        }
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        if (_timer is not null)
        {
            _timer.Dispose();
            _timer = null;
            WriteUses();
        }
    }

    private (byte[] Hash, Key? Key) Look(string key)
    {
        var hash = Key.HashOf(key);
        return (hash, _state.Find(hash));
    }

    private void Reload()
    {
        lock (_lock)
        {
            // Read first: a change during the reading is then seen at the next check.
            var fingerprint = _store.Fingerprint;
            if (fingerprint == _fingerprint)
            {
                return;
            }

            try
            {
                if (_store.Read() is { } file)
                {
                    // An address that is not loopback was allowed because requests need a key.
                    var before = _state;
                    _state = StateOf(file with { NeedsKey = file.NeedsKey || before.File.NeedsKey }, before);
                    (_fingerprint, Problem) = (fingerprint, null);
                    var now = _state.OfFile.ToHashSet();
                    var gone = before.OfFile.Where(k => !now.Contains(k)).ToList();
                    gone.ForEach(k => k.Revoke());
                    LogRead(now.Count, file.Projects.Count, gone.Count);
                    if (!IsOpen)
                    {
                        _ = _closed.CancelAsync();
                    }

                    return;
                }

                Say($"{_store.Path} is gone");
            }
            catch (AccessFileException e)
            {
                Say(e.Message);
            }

            _fingerprint = fingerprint;
        }
    }

    private void Say(string problem)
    {
        Problem = $"{problem}; the keys and projects that it had last stay in force until the server ends";
        LogKept(Problem);
    }

    // A key that has not changed keeps its requests and its last use.
    private State StateOf(AccessFile? file, State? before)
    {
        var known = before?.OfFile.ToDictionary(k => k.Entry) ?? [];
        return new State(
            file ?? new AccessFile(),
            [.. (file?.Keys ?? []).Select(e => known.GetValueOrDefault(e) ?? new Key(e))],
            [.. _ofSettings, .. new[] { _ofMetrics, _ofCli }.OfType<Key>()]);
    }

    private bool Expires(Key key)
    {
        if (key.Entry.Expires is not { } expires)
        {
            return false;
        }

        if (key.Revoked.IsCancellationRequested)
        {
            return true;
        }

        lock (_expired)
        {
            if (!_expired.Contains(key.Entry.Id))
            {
                if (_clock.Now < expires)
                {
                    return false;
                }

                _expired.Add(key.Entry.Id);
                _hasNewUses = true;
                LogExpired(key.Entry.Name);
            }
        }

        key.Revoke();
        return true;
    }

    private void WriteUses()
    {
        _hasNewUses = false;
        _usesWrittenAt = _time.GetTimestamp();
        try
        {
            var keys = _state.OfFile;
            var ids = keys.Select(k => k.Entry.Id).ToHashSet();
            lock (_expired)
            {
                // Of keys that no longer exist nothing is kept.
                _expired.IntersectWith(ids);
                new KeyUsesFile
                {
                    LastUses = keys.Where(k => k.LastUse is not null).ToDictionary(k => k.Entry.Id, k => k.LastUse!.Value),
                    Expired = [.. _expired.Order(StringComparer.Ordinal)],
                }.Write(_store);
            }
        }
        catch (AccessFileException e)
        {
            // Also what has expired must be noted, so it is tried again.
            _hasNewUses = true;
            LogUsesNotWritten(e.Message);
        }
    }

    [LoggerMessage(
        Level = LogLevel.Information, Message = "The file of keys was read: {Keys} keys, {Projects} projects; {Gone} keys were revoked")]
    private partial void LogRead(int keys, int projects, int gone);

    [LoggerMessage(Level = LogLevel.Error, Message = "The check of the keys failed; the next one is in a second")]
    private partial void LogCheckFailed(Exception exception);

    [LoggerMessage(Level = LogLevel.Error, Message = "{Problem}")]
    private partial void LogKept(string problem);

    [LoggerMessage(Level = LogLevel.Information, Message = "Key {Name} has expired")]
    private partial void LogExpired(string name);

    [LoggerMessage(Level = LogLevel.Warning, Message = "The last uses of keys were not noted: {Problem}")]
    private partial void LogUsesNotWritten(string problem);

    /// <summary>Everything that is known at one moment.</summary>
    private sealed class State(AccessFile file, IReadOnlyList<Key> ofFile, IReadOnlyList<Key> others)
    {
        // By the first bytes of the hash, which is no secret; the rest is compared in constant time.
        private readonly ILookup<long, Key> _byPrefix = ofFile.Concat(others).ToLookup(k => PrefixOf(Convert.FromHexString(k.Entry.Hash)));

        public AccessFile File => file;

        public IReadOnlyList<Key> OfFile => ofFile;

        public Key? Find(byte[] hash) => _byPrefix[PrefixOf(hash)].FirstOrDefault(k => k.Is(hash));

        public Key? FindById(string id) => ofFile.Concat(others).FirstOrDefault(k => k.Entry.Id == id);

        private static long PrefixOf(byte[] hash) => BitConverter.ToInt64(hash);
    }
}
