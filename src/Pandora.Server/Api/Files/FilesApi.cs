using Pandora.Contracts;

namespace Pandora.Server.Api.Files;

/// <summary>The routes under <c>/sandboxes/{id}/files</c>.</summary>
internal static partial class FilesApi
{
    public static void MapFiles(this IEndpointRouteBuilder routes)
    {
        var group = routes.MapGroup("/sandboxes/{id}/files").WithTags("Files");
        group.MapGet("", ReadAsync).WithSummary("Read a file")
            .WithDescription("With Range: bytes=… the answer is 206 with that range; several ranges are answered with the whole file. "
                + "If-Match, If-Unmodified-Since, If-None-Match and If-Range are honoured. "
                + "A file that becomes shorter meanwhile cuts the connection. "
                + "A file of size 0, as those of /proc, is sent without Content-Length, to its end.")
            .Produces<Stream>(200, FileContent.ContentType).Produces<Stream>(206, FileContent.ContentType).Produces(304)
            .Fails(ApiOperations.File).TakesPath();
        group.MapPut("", WriteAsync).WithSummary("Write a file")
            .WithDescription("The body is the file's content, of any type and any length. It takes the place of the file as a whole, or "
                + "not at all: a body that is cut off changes nothing. If-Match with one entity tag or *, and If-None-Match: *, are "
                + "conditions. Content-Range, Content-Encoding and If-Unmodified-Since are refused. 201 says that the file is new.")
            .Produces<FileEntry>().Produces<FileEntry>(201).Fails(ApiOperations.File).TakesPath().TakesBytes(FileContent.ContentType);
        group.MapDelete("", DeleteAsync).WithSummary("Delete a file or directory")
            .WithDescription("A link is deleted itself. A directory with something in it needs recursive=true. Conditions are refused.")
            .Produces(204).Fails(ApiOperations.File).TakesPath();
        group.MapGet("info", ShowAsync).WithSummary("Show a file, directory or link")
            .WithDescription("A link is shown itself; with follow=true the file that it leads to.")
            .Produces<FileEntry>().Fails(ApiOperations.File).TakesPath();
        group.MapGet("list", ListAsync).WithSummary("List a directory")
            .WithDescription("Each directory comes before what is in it, names in the order of their bytes. A page ends after limit "
                + "entries, and earlier when their paths are very long: next is then the value of after for the next page.")
            .Produces<FileList>().Fails(ApiOperations.File).TakesPath();
        group.MapPost("mkdir", MakeDirectoryAsync).WithSummary("Make a directory")
            .WithDescription("200 says that the directory was there.")
            .Produces<FileEntry>().Produces<FileEntry>(201).Fails(ApiOperations.File);
        group.MapPost("move", MoveAsync).WithSummary("Move a file or directory")
            .Produces<FileEntry>().Fails(ApiOperations.File);
        group.MapPost("copy", CopyAsync).WithSummary("Copy a file or directory")
            .WithDescription("A directory needs recursive.").Produces<FileEntry>().Fails(ApiOperations.File);
        group.MapGet("tar", PackAsync).WithSummary("Read a directory as a tar archive")
            .WithDescription("Its names are relative to the directory; of a file, the archive has that file. Sockets, devices and files "
                + "that the user may not read are left out. When the archive does not come to its end, the connection is cut.")
            .Produces<Stream>(200, FileArchive.ContentType, FileArchive.GzipType).Fails(ApiOperations.File).TakesPath();
        group.MapPut("tar", UnpackAsync).WithSummary("Write the files of a tar archive into a directory")
            .WithDescription("The directory is made when it is missing. The body is decompressed with compression=gzip or "
                + "Content-Encoding: gzip. What was written before a failure stays; the detail says how much.")
            .Produces<UnpackedFiles>().Fails(ApiOperations.File).TakesPath().TakesBytes(FileArchive.ContentType, FileArchive.GzipType);
        group.MapGet("watch", WatchAsync).WithSummary("Watch a directory")
            .WithDescription("A stream of events: started, created, modified, attributes, deleted, moved, lost, gone, error, heartbeat. "
                + "The data of each is a FileChange. With recursive=true the directories below are watched, too. lost says "
                + "that the client has read too slowly, or that a directory could not be watched.")
            .Produces<FileChange>(200, EventStream.ContentType).Fails(ApiOperations.File).TakesPath();
    }
}
