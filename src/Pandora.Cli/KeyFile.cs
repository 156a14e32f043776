using System.Net;
using System.Runtime.InteropServices;
using System.Text;
using Microsoft.Win32.SafeHandles;
using Pandora.Contracts;
using Pandora.Linux;

namespace Pandora.Cli;

/// <summary>
/// The key that a server writes into its data directory for the command line on its own host: root needs to set none there. It is sent to
/// loopback addresses alone, and shown nowhere.
/// </summary>
internal static partial class KeyFile
{
    // Longer than any key.
    private const int MaxBytes = 1024;
    private const int OpenToOthers = 0x3F; // 0077: permissions of the group and of others

    /// <summary>Whether an address is this host's own, whatever a resolver or a route says.</summary>
    public static bool IsLoopback(Uri url) =>
        url.Host == "localhost" || (IPAddress.TryParse(url.DnsSafeHost, out var address) && IPAddress.IsLoopback(address));

    /// <summary>
    /// The key in the file; null when there is no file, when this user cannot read it, or when no program of the file's owner or of root
    /// listens at the address. All are usual.
    /// </summary>
    /// <param name="url">The loopback address to which it is to be sent.</param>
    /// <param name="fault">Why a file that is there is ignored; null when it is not.</param>
    public static string? Read(Uri url, out Failure? fault)
    {
        fault = null;
        // Only there a server runs, and only there FileStatus has its system call.
        if (!OperatingSystem.IsLinux())
        {
            return null;
        }

        var data = Environment.GetEnvironmentVariable("PANDORA_DATA_DIR") is { Length: > 0 } directory ? directory : "/var/lib/pandora";
        var path = Path.Combine(data, "cli.key");
        try
        {
            if (FileStatus.Find(path) is not { } status)
            {
                return null;
            }

            string? key = null;
            // Before it is opened: opening a FIFO waits for its writer.
            var words = FaultOf(status);
            if (words is null)
            {
                using var file = File.OpenHandle(path);
                // Another file may have the name by now.
                words = FaultOf(FileStatus.Of(file));
                key = words is null ? ReadLine(file) : null;
                words ??= key is null ? "is not one line with a key" : null;
            }

            if (words is not null)
            {
                fault = new Failure(0, new ApiProblem(Detail: $"{path} is ignored: it {words}", Code: "key_file_ignored"));
            }

            return key is not null && Listeners.BelongTo(url.Port, status.Owner) ? key : null;
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            return null;
        }
    }

    private static string? FaultOf(FileStatus status)
    {
        if (!status.IsRegular)
        {
            return "is not a regular file";
        }

        if (status.Owner != 0 && status.Owner != EffectiveUser())
        {
            return $"is owned by user {status.Owner}, and not by root or by you";
        }

        return (status.Mode & OpenToOthers) != 0 ? "is open to other users: 'chmod 600' closes it" : null;
    }

    private static string? ReadLine(SafeFileHandle file)
    {
        var buffer = new byte[MaxBytes];
        var length = RandomAccess.Read(file, buffer, 0);
        var key = Encoding.UTF8.GetString(buffer, 0, length).Trim();
        return key.Length > 0 && key.All(c => c is > ' ' and <= '~') ? key : null;
    }

    [LibraryImport("libc", EntryPoint = "geteuid")]
    private static partial int EffectiveUser();
}
