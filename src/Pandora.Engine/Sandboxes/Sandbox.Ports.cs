using Pandora.Engine.Guests.Ports;
using Pandora.Engine.MicroVms;

namespace Pandora.Engine.Sandboxes;

/// <summary>A port of a sandbox: one on which programs listen, or which is public.</summary>
/// <param name="Port">The port: 1 to 65,535.</param>
/// <param name="Addresses">The guest's addresses on which programs listen; empty when none listens.</param>
/// <param name="IsPublic">Whether its previews need neither key nor link.</param>
/// <param name="Pid">Pid of a program that listens; null when it is not known.</param>
/// <param name="Program">Name of that program; null when it is not known.</param>
public sealed record SandboxPort(int Port, IReadOnlyList<string> Addresses, bool IsPublic, int? Pid, string? Program);

// What listens in a sandbox, and who may reach it.
public sealed partial class Sandbox
{
    /// <summary>Most connections to ports of a sandbox at once, those to its SSH server among them. The streams that are left serve
    /// commands, files and control.</summary>
    public const int MaxConnections = 768;

    /// <summary>Most connections of previews among them: viewers of a public port, who need no key, leave places to its
    /// owner.</summary>
    public const int MaxPreviews = 512;

    private int _connections, _previews;

    /// <summary>Number of connections to its ports and to its SSH server that are open.</summary>
    public int Connections => Volatile.Read(ref _connections);

    /// <summary>The ports whose previews need neither key nor link.</summary>
    public IReadOnlyList<int> PublicPorts => Claim.PublicPorts ?? [];

    /// <summary>The public keys that may log in by SSH.</summary>
    public IReadOnlyList<string> SshKeys => Claim.SshKeys ?? [];

    /// <summary>The guest's public host key as a line of <c>known_hosts</c> without the host.</summary>
    public string SshHostKey => $"ssh-ed25519 {MicroVm.HostKey}";

    /// <summary>Lists the ports on which programs listen, and those that are public, by their number.</summary>
    /// <exception cref="PandoraException">The guest's agent can do nothing with ports or does not answer, or the sandbox has
    /// ended.</exception>
    public Task<IReadOnlyList<SandboxPort>> ListPortsAsync(CancellationToken cancellationToken) =>
        OperateAsync<IReadOnlyList<SandboxPort>>(line: null, async stop =>
        {
            var listening = (await MicroVm.Guest.ListPortsAsync(stop)).ToLookup(p => p.Port);
            var isPublic = PublicPorts.ToHashSet();
            return
            [
                .. listening.Select(p => p.Key).Union(isPublic).Order().Select(port =>
                {
                    var listener = listening[port].FirstOrDefault(p => p.Pid is not null) ?? listening[port].FirstOrDefault();
                    return new SandboxPort(
                        port, [.. listening[port].Select(p => p.Address.ToString()).Distinct()], isPublic.Contains(port), listener?.Pid,
                        listener?.Program);
                }),
            ];
        }, cancellationToken, SandboxOperation.Port);

    /// <summary>Connects to a port, from inside the guest. An open connection does not keep the sandbox alive; bytes that move
    /// do.</summary>
    /// <param name="port">The port: 1 to 65,535.</param>
    /// <param name="use">What the connection is for. The audit has a line for each but previews, which belong to no client.</param>
    /// <param name="cancellationToken">Ends the wait.</param>
    /// <exception cref="PandoraException">No program listens, too many connections are open, the guest's agent does not answer, or the
    /// sandbox has ended.</exception>
    public Task<SandboxStream> ConnectPortAsync(int port, PortUse use, CancellationToken cancellationToken)
    {
        var line = use == PortUse.Preview ? null : Audit(AuditOperation.PortConnect);
        if (line is not null)
        {
            line.Port = port;
        }

        return OpenConnectionAsync(line, SandboxOperation.Port, use, stop =>
        {
            RequestLimits.CheckPort(port);
            return MicroVm.Guest.ConnectAsync(port, stop);
        }, cancellationToken);
    }

    /// <summary>Starts the guest's SSH server for one connection. <see cref="SshKeys"/> may log in.</summary>
    /// <exception cref="PandoraException">The guest has no SSH server, too many connections are open, the guest's agent does not answer, or
    /// the sandbox has ended.</exception>
    public Task<SandboxStream> OpenSshAsync(CancellationToken cancellationToken) => OpenConnectionAsync(
        Audit(AuditOperation.Ssh), SandboxOperation.Ssh, PortUse.Ssh, stop => MicroVm.Guest.OpenSshAsync(SshKeys, stop),
        cancellationToken);

    /// <summary>Whether previews of a port need neither key nor link.</summary>
    public bool IsPublic(int port) => PublicPorts.Contains(port);

    /// <summary>Sets whether previews of a port need neither key nor link. The guest is not asked.</summary>
    /// <exception cref="PandoraException">The port is none, too many are public, the sandbox has ended, or the record could not be
    /// written.</exception>
    public Task SetPublicAsync(int port, bool isPublic, CancellationToken cancellationToken)
    {
        var line = Audit(AuditOperation.PortPublic);
        (line.Port, line.IsPublic) = (port, isPublic);
        return ChangeAsync(line, SandboxOperation.Port, () =>
        {
            RequestLimits.CheckPort(port);
            var others = PublicPorts.Where(p => p != port);
            IReadOnlyList<int> ports = isPublic ? [.. others.Append(port).Order()] : [.. others];
            RequestLimits.CheckPublicPorts(ports, "port");
            return Claim with { PublicPorts = ports.Count > 0 ? ports : null };
        }, cancellationToken);
    }

    /// <summary>Sets the public keys that may log in by SSH. Connections that are open live on.</summary>
    /// <param name="keys">Lines of <c>authorized_keys</c> without options (sshd(8)).</param>
    /// <param name="cancellationToken">Ends the wait for other changes.</param>
    /// <exception cref="PandoraException">A key is invalid, the sandbox has ended, or the record could not be written.</exception>
    public Task SetSshKeysAsync(IReadOnlyList<string> keys, CancellationToken cancellationToken) =>
        ChangeAsync(Audit(AuditOperation.SshKeys), SandboxOperation.Ssh, () =>
        {
            RequestLimits.CheckSshKeys(keys, "keys");
            return Claim with { SshKeys = keys.Count > 0 ? [.. keys] : null };
        }, cancellationToken);

    /// <summary>Records that a link to the preview of a port was made, or was refused.</summary>
    /// <exception cref="PandoraException">The port is none, or the sandbox has ended.</exception>
    public void RecordLink(int port)
    {
        var line = Audit(AuditOperation.PortLink);
        line.Port = port;
        try
        {
            RequestLimits.CheckPort(port);
            MustNotEnd();
        }
        catch (Exception e)
        {
            RecordFailed(line, e);
            throw;
        }

        RecordDone(line);
    }

    /// <summary>Cancelled when the server stops and interrupts what is open.</summary>
    internal CancellationToken Detaching => _node.Detaching;

    /// <summary>Counts bytes that moved over a connection, which are an activity.</summary>
    internal void Moved(PortDirection direction, int bytes)
    {
        Touch();
        _node.Journal.PortMoved(direction, bytes);
    }

    /// <summary>Why a connection broke although its program did not break it: the sandbox has ended, the server stops, or the guest is
    /// lost.</summary>
    internal async Task<PandoraException> ConnectionReasonAsync(Exception error)
    {
        if (IsDetaching && End is null)
        {
            return new PandoraException(PandoraError.ShuttingDown, "the server is shutting down");
        }

        var lost = error.InnerException as PandoraException
            ?? new PandoraException(PandoraError.GuestUnreachable, "the guest's agent is lost");
        return await ReasonOfAsync(lost, CancellationToken.None) as PandoraException ?? lost;
    }

    private Task<SandboxStream> OpenConnectionAsync(
        AuditLine? line, SandboxOperation operation, PortUse use, Func<CancellationToken, Task<GuestStream>> connect,
        CancellationToken cancellationToken) => OperateAsync(line, async stop =>
        {
            MustNotBeStalled();
            var place = TakeConnectionPlace(use);
            try
            {
                return new SandboxStream(this, await connect(stop), place, line);
            }
            catch
            {
                place.Dispose();
                throw;
            }
        }, cancellationToken, operation);

    // Changes take turns, and none begins once the sandbox has begun to end.
    private Task ChangeAsync(
        AuditLine? line, SandboxOperation operation, Func<ClaimRecord> change, CancellationToken cancellationToken) =>
        OperateAsync(line, async stop =>
        {
            await _changeTurn.WaitAsync(stop);
            try
            {
                MustNotEnd();
                Record(change());
            }
            finally
            {
                _changeTurn.Release();
            }

            if (line is not null)
            {
                RecordDone(line);
            }

            return true;
        }, cancellationToken, operation);

    private ConnectionPlace TakeConnectionPlace(PortUse use)
    {
        var isPreview = use == PortUse.Preview;
        if (isPreview)
        {
            TakePlace(ref _previews, MaxPreviews, "connections of previews");
        }

        try
        {
            TakePlace(ref _connections, MaxConnections, "connections");
        }
        catch when (isPreview)
        {
            Interlocked.Decrement(ref _previews);
            throw;
        }

        return new ConnectionPlace(this, use);
    }

    private static void TakePlace(ref int count, int most, string what)
    {
        if (Interlocked.Increment(ref count) > most)
        {
            Interlocked.Decrement(ref count);
            throw new PandoraException(
                PandoraError.TooManyConnections, $"{most} {what} to ports of this sandbox are open, and no more may be at once");
        }
    }

    /// <summary>The place of a connection among those of the sandbox.</summary>
    internal sealed class ConnectionPlace : IDisposable
    {
        private readonly Sandbox _sandbox;
        private readonly PortUse _use;
        private int _isOver;

        public ConnectionPlace(Sandbox sandbox, PortUse use)
        {
            (_sandbox, _use) = (sandbox, use);
            sandbox._node.Journal.PortConnected(use, 1);
        }

        /// <inheritdoc/>
        public void Dispose()
        {
            if (Interlocked.Exchange(ref _isOver, 1) == 0)
            {
                Interlocked.Decrement(ref _sandbox._connections);
                if (_use == PortUse.Preview)
                {
                    Interlocked.Decrement(ref _sandbox._previews);
                }

                _sandbox._node.Journal.PortConnected(_use, -1);
            }
        }
    }
}
