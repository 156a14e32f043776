namespace Pandora.Engine.Guests;

/// <summary>Helpers for processes in guests.</summary>
internal static class GuestProcesses
{
    /// <summary>Reads until the process ends, and keeps nothing.</summary>
    /// <exception cref="PandoraException">The guest does not answer any more.</exception>
    public static async Task ReadToEndAsync(this IGuestProcess process, CancellationToken cancellationToken)
    {
        while (await process.ReadAsync(cancellationToken) is not null)
        {
            // Nobody wants it.
        }
    }
}
