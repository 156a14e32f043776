using Pandora.Engine;
using Pandora.Engine.Guests;
using Pandora.Engine.Guests.Agent;
using Pandora.Engine.Guests.Files;
using Pandora.Engine.Guests.Ports;

namespace Pandora.Fakes;

/// <summary>One server's connection to a fake guest, which outlives it.</summary>
internal sealed class FakeLink(FakeGuest guest) : IGuest
{
    public FakeGuest Guest => guest;

    /// <summary>Whether the server has closed the connection.</summary>
    public bool IsClosed { get; private set; }

    /// <summary>Whether the server was killed: it learns nothing more, and can do nothing.</summary>
    public bool IsSilent { get; private set; }

    /// <summary>Whether nothing reaches the guest.</summary>
    public bool IsDead => IsClosed || IsSilent;

    /// <summary>Called when the server closes the connection.</summary>
    public event Action? Closed;

    public ExecWay Way => ExecWay.Agent;

    /// <summary>The error of a server that has lost its guest.</summary>
    public static PandoraException Lost() => new(PandoraError.GuestUnreachable, "the guest's agent cannot be reached any more");

    /// <summary>Cuts the connection, as when the server is killed.</summary>
    public void Silence() => IsSilent = true;

    /// <summary>Closes the connection.</summary>
    public void Close()
    {
        IsClosed = true;
        Closed?.Invoke();
        guest.Runs.ToList().ForEach(r => r.Wake());
    }

    public Task<IGuestProcess> StartAsync(ProcessSpec spec, CancellationToken cancellationToken) =>
        AskAsync(() => guest.Start(spec, this), cancellationToken);

    public Task<IGuestProcess> AttachAsync(string id, ReadFrom from, CancellationToken cancellationToken) =>
        AskAsync<IGuestProcess>(() => new FakeReader(this, guest.RunOf(id), from), cancellationToken);

    public Task<ProcessInfo> GetAsync(string id, CancellationToken cancellationToken) =>
        AskAsync(() => guest.RunOf(id).Info, cancellationToken);

    public Task<IReadOnlyList<ProcessInfo>> ListAsync(CancellationToken cancellationToken) =>
        AskAsync<IReadOnlyList<ProcessInfo>>(() => [.. guest.Runs.Select(r => r.Info)], cancellationToken);

    public async Task<IGuestFiles> OpenFilesAsync(FileSpec spec, CancellationToken cancellationToken)
    {
        var agent = await AskAsync(
            () => new AgentGuest(
                guest.Files ?? throw new PandoraException(PandoraError.FilesUnsupported, "the guest's agent knows no files"),
                ExecWay.Agent, guest.Time),
            cancellationToken);
        return await agent.OpenFilesAsync(spec, cancellationToken);
    }

    public Task<IReadOnlyList<GuestPort>> ListPortsAsync(CancellationToken cancellationToken) => AskAsync<IReadOnlyList<GuestPort>>(
        () => [.. guest.Ports.Keys.Order().Select(p => new GuestPort(p, System.Net.IPAddress.Loopback, 100 + p, "fake"))],
        cancellationToken);

    public async Task<GuestStream> ConnectAsync(int port, CancellationToken cancellationToken)
    {
        var address = await AskAsync(
            () => guest.Ports.TryGetValue(port, out var found)
                ? found
                : throw new PandoraException(PandoraError.PortClosed, $"no program listens on port {port}"),
            cancellationToken);
        return await FakePortStream.OpenAsync(this, address, cancellationToken);
    }

    public async Task<GuestStream> OpenSshAsync(IReadOnlyList<string> keys, CancellationToken cancellationToken)
    {
        var address = await AskAsync(
            () => guest.SshServer ?? throw new PandoraException(PandoraError.SshUnsupported, "the guest has no SSH server"),
            cancellationToken);
        guest.SshKeys.Enqueue(keys);
        return await FakePortStream.OpenAsync(this, address, cancellationToken);
    }

    public Task QuiesceAsync(CancellationToken cancellationToken) => Task.CompletedTask;

    public ValueTask DisposeAsync()
    {
        Close();
        return ValueTask.CompletedTask;
    }

    private async Task<T> AskAsync<T>(Func<T> answer, CancellationToken cancellationToken)
    {
        await guest.Answers.WaitAsync(cancellationToken);
        if (IsSilent)
        {
            await Task.Delay(Timeout.InfiniteTimeSpan, TimeProvider.System, cancellationToken);
        }

        return IsClosed ? throw Lost() : answer();
    }
}
