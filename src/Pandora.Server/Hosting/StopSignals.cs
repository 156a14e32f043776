using System.Runtime.InteropServices;
using Pandora.Engine;

namespace Pandora.Server.Hosting;

/// <summary>
/// How the server is told to stop, and what that means for sandboxes: Ctrl-C, a closed terminal and <c>./pandora down</c> (SIGUSR2) end
/// them; <c>./pandora restart</c> (SIGUSR1) keeps them; SIGTERM, which service managers send, does what <c>PANDORA_ON_STOP</c> says.
/// </summary>
public sealed class StopSignals(IHostApplicationLifetime lifetime) : IHostLifetime, IDisposable
{
    // Numbers of Linux: .NET has no names for them.
    private const PosixSignal User1 = (PosixSignal)10, User2 = (PosixSignal)12;
    private readonly List<PosixSignalRegistration> _registrations = [];
    private PosixSignal? _received;

    /// <summary>Whether sandboxes live on. Without a signal (something failed) they do not.</summary>
    public bool Keeps(OnStop setting) => _received switch
    {
        User1 => true,
        PosixSignal.SIGTERM => setting == OnStop.Keep,
        _ => false,
    };

    /// <inheritdoc/>
    public Task WaitForStartAsync(CancellationToken cancellationToken)
    {
        foreach (var signal in new[] { PosixSignal.SIGINT, PosixSignal.SIGQUIT, PosixSignal.SIGHUP, PosixSignal.SIGTERM, User1, User2 })
        {
            _registrations.Add(PosixSignalRegistration.Create(signal, context =>
            {
                context.Cancel = true;
                // The first counts; a second Ctrl-C does not turn a restart into an end that was half done.
                _received ??= context.Signal;
                lifetime.StopApplication();
            }));
        }

        return Task.CompletedTask;
    }

    /// <inheritdoc/>
    public Task StopAsync(CancellationToken cancellationToken) => Task.CompletedTask;

    /// <inheritdoc/>
    public void Dispose() => _registrations.ForEach(r => r.Dispose());
}
