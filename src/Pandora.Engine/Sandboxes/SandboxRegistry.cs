using System.Collections.Concurrent;
using System.Diagnostics;
using Microsoft.Extensions.Logging;
using Pandora.Engine.Admission;
using Pandora.Engine.MicroVms;
using Pandora.Engine.Networking;
using Pandora.Engine.Pools;
using Pandora.Engine.Projects;
using Pandora.Engine.Telemetry;

namespace Pandora.Engine.Sandboxes;

/// <summary>All sandboxes of this node: creates, finds, lists and ends them. <see cref="Sandbox"/> has the operations in one.</summary>
public sealed partial class SandboxRegistry
{
    private const int RememberedEnds = 1000;
    private readonly ConcurrentDictionary<string, Sandbox> _sandboxes = new();
    private readonly IdempotencyKeys _keys = new();
    private readonly Admissions _admissions;
    private readonly EndedSandboxes _ended;
    private readonly SandboxClaims _claims;
    private readonly SandboxJournal _journal;
    private readonly SandboxNode _node;
    private readonly EngineOptions _options;
    private readonly TimeProvider _time;
    private readonly ILogger _logger;
    private volatile bool _isOpen;

    internal SandboxRegistry(
        EngineOptions options, WarmPools pools, IHostNetwork network, DiskRoom room, HostBudget budget, EngineMetrics metrics,
        TimeProvider time, ILoggerFactory loggers, FindProject? projects = null)
    {
        _options = options;
        _time = time;
        _logger = loggers.CreateLogger<SandboxRegistry>();
        _journal = new SandboxJournal(metrics, loggers.CreateLogger(AuditLine.Category));
        _node = new SandboxNode(options, network, _journal, time, projects);
        _ended = new EndedSandboxes(RememberedEnds, _keys.Forget);
        _admissions = new Admissions(options.MaxSandboxes, budget, _node.Projects);
        _claims = new SandboxClaims(options, pools, network, room, _admissions, _node.Projects, time, _logger);
    }

    /// <summary>The number of sandboxes. Claims that wait for a microVM do not count.</summary>
    public int Count => _admissions.Count;

    /// <summary>What the sandboxes have of the host's budget.</summary>
    public (long MemoryMib, int Vcpus) Used => _admissions.Used;

    /// <summary>What each project has that has anything.</summary>
    public IReadOnlyDictionary<string, ProjectUse> Uses => _admissions.Uses;

    /// <summary>What a project has.</summary>
    public ProjectUse UseOf(string project) => _admissions.UseOf(project);

    /// <summary>The number of sandboxes that wait for room on the host's disk, or have lost data.</summary>
    public int DegradedCount => _sandboxes.Values.Count(s => s.Degradation is not null);

    /// <summary>All sandboxes except the undecided, in no order.</summary>
    internal IEnumerable<Sandbox> All => _sandboxes.Values;

    /// <summary>The number of sandboxes of each template.</summary>
    public IReadOnlyDictionary<string, int> CountByTemplate() =>
        _sandboxes.Values.GroupBy(s => s.Template).ToDictionary(g => g.Key, g => g.Count());

    /// <summary>Lists the state of all sandboxes: first the undecided ones of an earlier server, then the others, oldest first.</summary>
    /// <exception cref="PandoraException">The server has just started and does not know its sandboxes yet.</exception>
    internal IReadOnlyList<SandboxStatus> List()
    {
        MustBeRecovered();
        // Read the undecided first: a sandbox that is decided between the two reads is then found twice, and not missed.
        var now = _time.GetUtcNow();
        var undecided = _undecided.Values.Select(r => SandboxStatus.OfUndecided(r, _node, now)).ToList();
        var known = _sandboxes.Values.OrderByDescending(s => s.Age).Select(s => s.Status).ToList();
        return [.. undecided.ExceptBy(known.Select(k => k.Id), u => u.Id), .. known];
    }

    /// <summary>
    /// Creates a sandbox: validates the request, claims a microVM from the pool, writes its record. This path does nothing else.
    /// </summary>
    /// <exception cref="PandoraException">The request is invalid, there are too many sandboxes, or no microVM became ready in
    /// time.</exception>
    internal async Task<CreatedSandbox> CreateAsync(SandboxRequest request, CancellationToken cancellationToken)
    {
        using var span = EngineTracing.Source.StartActivity("sandbox.claim");
        var line = new AuditLine(AuditOperation.Create) { Project = request.Project };
        try
        {
            RequestLimits.Check(request, _options, _node.Projects(request.Project));
            MustBeRecovered();
            if (request.IdempotencyKey is { } asked && _undecided.Values.Any(
                r => r.Claim!.IdempotencyKey == asked && r.Claim.ProjectName == request.Project))
            {
                throw IsUndecided("the sandbox of this Idempotency-Key");
            }

            var created = request.IdempotencyKey is { } key
                ? await _keys.GetOrClaimAsync(
                    (request.Project, key), request.Hash(), () => ClaimAsync(request, cancellationToken), cancellationToken)
                : await ClaimAsync(request, cancellationToken);
            if (created.IsReplayed && created.Sandbox.End is { } end)
            {
                throw Sandbox.Ended(created.Sandbox.Id, end);
            }

            _journal.Created(span, line, created);
            return created;
        }
        catch (Exception e)
        {
            _journal.Failed(span, line, e);
            throw;
        }
    }

    /// <summary>Finds a sandbox.</summary>
    /// <param name="id">Its id.</param>
    /// <param name="project">The project that it must belong to; null for any.</param>
    /// <exception cref="PandoraException">There is no sandbox with that id, or it has ended; the message says how.</exception>
    internal Sandbox Get(string id, string? project = null)
    {
        MustBeRecovered();
        // Read first: a sandbox that is decided in between is then found among the others.
        var undecided = _undecided.GetValueOrDefault(id);
        if (_sandboxes.TryGetValue(id, out var sandbox) && IsOf(project, sandbox.Project))
        {
            return sandbox;
        }

        if (_ended.Find(id) is { } ended && IsOf(project, ended.Project))
        {
            throw Sandbox.Ended(id, ended.End);
        }

        if (undecided is not null && IsOf(project, undecided.Claim!.ProjectName))
        {
            throw IsUndecided($"sandbox '{id}'");
        }

        var shown = id.Length > 64 ? id[..64] + "…" : id;
        throw new PandoraException(PandoraError.SandboxNotFound, $"there is no sandbox '{shown}'");
    }

    /// <summary>Whether previews of a port need neither key nor link. That holds of a sandbox that has ended, too: its viewers learn
    /// that it is gone.</summary>
    public bool IsPublic(string id, int port)
    {
        // Read first: a sandbox that is decided in between is then found among the others.
        var undecided = _undecided.GetValueOrDefault(id);
        return _sandboxes.TryGetValue(id, out var sandbox) ? sandbox.IsPublic(port)
            : undecided?.Claim?.PublicPorts?.Contains(port) ?? _ended.Find(id)?.PublicPorts.Contains(port) == true;
    }

    /// <summary>Whether a front end keeps something with a sandbox under a name, or did until the sandbox ended.</summary>
    public bool HasAnnotation(string id, string name)
    {
        // Read first: a sandbox that is decided in between is then found among the others.
        var undecided = _undecided.GetValueOrDefault(id);
        return _sandboxes.TryGetValue(id, out var sandbox) ? sandbox.Annotations.ContainsKey(name)
            : undecided?.Claim?.Annotations?.ContainsKey(name) ?? _ended.Find(id)?.Annotations.Contains(name) == true;
    }

    /// <summary>Whether a sandbox is known, or was until it ended. All are while the server does not know its sandboxes yet.</summary>
    /// <param name="id">Its id.</param>
    /// <param name="project">The project that it must belong to; null for any.</param>
    internal bool IsKnown(string id, string? project)
    {
        // Read first: a sandbox that is decided in between is then found among the others.
        var undecided = _undecided.GetValueOrDefault(id);
        return !_isOpen
            || (_sandboxes.TryGetValue(id, out var sandbox) && IsOf(project, sandbox.Project))
            || (undecided is not null && IsOf(project, undecided.Claim!.ProjectName))
            || HasEnded(id, project);
    }

    /// <summary>Whether a sandbox has ended that is still remembered.</summary>
    /// <param name="id">Its id.</param>
    /// <param name="project">The project that it must belong to; null for any.</param>
    internal bool HasEnded(string id, string? project = null) => _ended.Find(id) is { } ended && IsOf(project, ended.Project);

    /// <summary>Finds a sandbox for an operation, and records the operation as failed when there is none.</summary>
    /// <param name="id">Its id.</param>
    /// <param name="operation">The operation, for metrics and the audit.</param>
    /// <param name="project">The project that it must belong to; null for any.</param>
    /// <exception cref="PandoraException">There is no sandbox with that id, or it has ended; the message says how.</exception>
    internal Sandbox GetFor(string id, AuditOperation operation, string? project = null)
    {
        var line = new AuditLine(operation) { SandboxId = SandboxJournal.Bounded(id) };
        try
        {
            return Get(id, project);
        }
        catch (Exception e)
        {
            _journal.Failed(null, line, e);
            throw;
        }
    }

    /// <inheritdoc cref="GetFor(string, AuditOperation, string?)"/>
    internal Sandbox GetFor(string id, SandboxOperation operation, string? project = null)
    {
        if (SandboxJournal.AuditedAs(operation) is { } audited)
        {
            return GetFor(id, audited, project);
        }

        try
        {
            return Get(id, project);
        }
        catch (Exception e)
        {
            _journal.Failed(operation, e);
            throw;
        }
    }

    private static bool IsOf(string? wanted, string project) => wanted is null || wanted == project;

    private async Task<CreatedSandbox> ClaimAsync(SandboxRequest request, CancellationToken cancellationToken)
    {
        var start = Stopwatch.GetTimestamp();
        _node.MustServe();
        var claimed = await _claims.ClaimAsync(request, cancellationToken);
        var sandbox = Register(claimed.MicroVm);
        if (_node.IsClosed)
        {
            await EndAsync(sandbox, new SandboxEnd(EndReason.Shutdown, "the server shut down", _time.GetUtcNow()));
            _node.MustServe();
        }

        return new CreatedSandbox(sandbox, claimed.IsWarm, Stopwatch.GetElapsedTime(start));
    }

    private Sandbox Register(MicroVm microVm, bool isAdopted = false)
    {
        var sandbox = new Sandbox(microVm, microVm.Claim!, _node);
        if (isAdopted)
        {
            // Before a client can find it.
            sandbox.ExpectReattachment();
        }

        _sandboxes[sandbox.Id] = sandbox;
        sandbox.WatchEnd(() => _ = EngineTracing.Detach(() => EndAsync(sandbox, EndOfTime(sandbox))));
        _ = EngineTracing.Detach(() => WatchAsync(sandbox));
        return sandbox;
    }
}
