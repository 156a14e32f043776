using System.Runtime.InteropServices;
using Pandora.Linux;

namespace Pandora.Engine.Networking;

/// <summary>
/// Runs nftables commands through libnftables, so that a claim that changes a rule starts no process. One command text is one transaction
/// (libnftables(3)).
/// </summary>
internal sealed partial class Nftables : IDisposable
{
    private const string Library = "libnftables.so.1";
    private const uint OutputJson = 1 << 4, OutputHandle = 1 << 3;
    private readonly Lock _lock = new();
    private nint _context;

    public Nftables()
    {
        try
        {
            // Through Descriptors, so that no VMM inherits the library's socket.
            _context = Descriptors.Open(() => New(0));
        }
        catch (DllNotFoundException e)
        {
            throw new StartupException("libnftables is not installed: it comes with the package nftables, which ./pandora up installs", e);
        }

        _ = BufferOutput(_context);
        _ = BufferError(_context);
    }

    /// <summary>Runs commands as one transaction and returns their output.</summary>
    /// <param name="commands">The commands, as nft(8) takes them.</param>
    /// <param name="asJson">Whether to print JSON.</param>
    /// <param name="asText">Whether to print text without the handles, which change with each write.</param>
    /// <exception cref="NftablesException">The kernel or the parser refused the commands; nothing was changed.</exception>
    public string Run(string commands, bool asJson = false, bool asText = false)
    {
        lock (_lock)
        {
            ObjectDisposedException.ThrowIf(_context == 0, this);
            SetOutputFlags(_context, OutputFlags(asJson, asText));
            return RunCommands(_context, commands) == 0
                ? Marshal.PtrToStringUTF8(GetOutput(_context)) ?? ""
                : throw new NftablesException($"nftables refused: {(Marshal.PtrToStringUTF8(GetError(_context)) ?? "").Trim()}");
        }
    }

    public void Dispose()
    {
        lock (_lock)
        {
            if (_context != 0)
            {
                Free(_context);
                _context = 0;
            }
        }
    }

    private static uint OutputFlags(bool asJson, bool asText)
    {
        if (asText)
        {
            return 0;
        }

        return asJson ? OutputJson | OutputHandle : OutputHandle;
    }

    [LibraryImport(Library, EntryPoint = "nft_ctx_new")]
    private static partial nint New(uint flags);

    [LibraryImport(Library, EntryPoint = "nft_ctx_free")]
    private static partial void Free(nint context);

    [LibraryImport(Library, EntryPoint = "nft_ctx_buffer_output")]
    private static partial int BufferOutput(nint context);

    [LibraryImport(Library, EntryPoint = "nft_ctx_buffer_error")]
    private static partial int BufferError(nint context);

    [LibraryImport(Library, EntryPoint = "nft_ctx_output_set_flags")]
    private static partial void SetOutputFlags(nint context, uint flags);

    [LibraryImport(Library, EntryPoint = "nft_ctx_get_output_buffer")]
    private static partial nint GetOutput(nint context);

    [LibraryImport(Library, EntryPoint = "nft_ctx_get_error_buffer")]
    private static partial nint GetError(nint context);

    [LibraryImport(Library, EntryPoint = "nft_run_cmd_from_buffer", StringMarshalling = StringMarshalling.Utf8)]
    private static partial int RunCommands(nint context, string commands);
}

/// <summary>nftables refused a transaction.</summary>
internal sealed class NftablesException(string message) : Exception(message);
